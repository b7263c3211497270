#!/bin/sh
# Stops what up.sh started, and nothing else.
set -eu
: "${PEER_STATE:?names the folder of the state of this peer}"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/server.sh"
if is_running; then
    kill "$pid"
    tries=0
    while is_running; do
        tries=$((tries + 1))
        if [ "$tries" -gt 50 ]; then kill -KILL "$pid" || true; fi
        sleep 0.2
    done
fi
stop_machines
rm -f "$PEER_STATE/pid" "$PEER_STATE/port" "$PEER_STATE/env"
