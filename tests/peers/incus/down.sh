#!/bin/bash
# Stops what up.sh started.
set -euo pipefail
# shellcheck disable=SC2034
KIND=incus CLI=incus DAEMON=/usr/libexec/incus/incusd
# shellcheck source=../lxd/common.sh
. "$(dirname -- "$(readlink -f -- "$0")")/../lxd/common.sh"
peer_down
