#!/bin/bash
# Provides Debian's tools that the tests of `tests/bootstrap` hold the scripts against, in a root of
# their own. Starts no server: the tests do.
set -euo pipefail
# shellcheck source=../chroot/enter.sh
. "$(dirname -- "$(readlink -f -- "$0")")/../chroot/enter.sh"
build_root bootstrap
[ -z "${PEER_INSTALL_ONLY:-}" ] || exit 0
set_up_root
wrap cloud-init curl docker dockerd ip nft openssl python3 shellcheck squid
cat >"$PEER_STATE/env.new" <<ENV
PATH=$PEER_STATE/bin:${PATH#"$PEER_STATE/bin:"}
BOOTSTRAP_BUSYBOX=$root/bin/busybox
ENV
mv "$PEER_STATE/env.new" "$PEER_STATE/env"
