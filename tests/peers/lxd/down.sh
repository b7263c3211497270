#!/bin/bash
# Stops what up.sh started.
set -euo pipefail
# shellcheck disable=SC2034
KIND=lxd CLI=lxc DAEMON=lxd
# shellcheck source=common.sh
. "$(dirname -- "$(readlink -f -- "$0")")/common.sh"
peer_down
