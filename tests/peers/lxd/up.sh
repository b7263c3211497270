#!/bin/bash
# Starts LXD from Debian's package, with its own data folder and no init system.
set -euo pipefail
KIND=lxd CLI=lxc DAEMON=lxd TRUST=(add)
# shellcheck source=common.sh
. "$(dirname -- "$(readlink -f -- "$0")")/common.sh"
peer_up
