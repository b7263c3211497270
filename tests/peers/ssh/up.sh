#!/bin/bash
# Provides OpenSSH's server, which the tests of `guest-ssh` run in a root of its own. Starts none: the
# tests do.
set -euo pipefail
# shellcheck source=../chroot/enter.sh
. "$(dirname -- "$(readlink -f -- "$0")")/../chroot/enter.sh"
build_root ssh
[ -z "${PEER_INSTALL_ONLY:-}" ] || exit 0
set_up_root
nsenter "--mount=/proc/$holder/ns/mnt" -- mkdir -p /run/sshd
wrap /usr/sbin/sshd
echo "GUEST_SSH_SSHD=$PEER_STATE/bin/sshd" >"$PEER_STATE/env.new"
mv "$PEER_STATE/env.new" "$PEER_STATE/env"
