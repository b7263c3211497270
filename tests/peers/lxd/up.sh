#!/bin/bash
# Starts LXD from Debian's package, with its own data folder and no init system.
set -euo pipefail
KIND=lxd CLI=lxc DAEMON=lxd TRUST=(add)
# shellcheck source=common.sh
. "$(dirname -- "$(readlink -f -- "$0")")/common.sh"
command -v lxd >/dev/null && command -v lxc >/dev/null && command -v mkfs.btrfs >/dev/null ||
    install_packages install lxd lxd-client btrfs-progs openssl
end_if_only_installed
peer_up
