#!/bin/bash
# Stops what up.sh started, and the machines of test programs that did not come to their own end.
set -euo pipefail
# shellcheck source=../chroot/enter.sh
. "$(dirname -- "$(readlink -f -- "$0")")/../chroot/enter.sh"
stop_root
rm -rf "$PEER_STATE/machines"
rm -f "$PEER_STATE/pid" "$PEER_STATE/port" "$PEER_STATE/env"
