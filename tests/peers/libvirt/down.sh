#!/bin/bash
# Stops what up.sh started, and removes the guests' files; the caches stay.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "$0")")
root=$(readlink -f -- "$here/../../..")
: "${PEER_STATE:?set it to an absolute folder}"
# shellcheck source=lib.sh
. "$here/lib.sh"
for host in $hosts; do
    stop_host "$host"
    rm -rf "${PEER_STATE:?}/$host"
done
rm -f "$PEER_STATE/env"
