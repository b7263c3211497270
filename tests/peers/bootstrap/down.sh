#!/bin/bash
# Ends what runs in the root of up.sh.
set -euo pipefail
# shellcheck source=../chroot/enter.sh
. "$(dirname -- "$(readlink -f -- "$0")")/../chroot/enter.sh"
stop_root
rm -f "$PEER_STATE/env"
