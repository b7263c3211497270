#!/bin/bash
# Stops what up.sh started, and removes the guests' files; the caches stay.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "$(readlink -f -- "$0")")/lib.sh"
if [ -n "${PEER_INSIDE:-}" ]; then
    for host in $hosts; do
        stop_host "$host"
    done
    exit
fi
if find_holder; then
    (enter_root) || true
fi
stop_root
for host in $hosts; do
    rm -rf "${PEER_STATE:?}/$host"
done
rm -f "$PEER_STATE/env"
