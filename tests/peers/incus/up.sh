#!/bin/bash
# Starts Incus from Debian's packages, with its own data folder and no init system.
set -euo pipefail
KIND=incus CLI=incus DAEMON=/usr/libexec/incus/incusd TRUST=(add-certificate)
# shellcheck source=../lxd/common.sh
. "$(dirname -- "$(readlink -f -- "$0")")/../lxd/common.sh"
peer_up
