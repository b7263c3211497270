#!/bin/bash
# Starts moto's server, which stands in for EC2, on a free port of loopback. Idempotent.
# Writes to $PEER_STATE/env how it is reached. See README.md.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=../chroot/enter.sh
. "$here/../chroot/enter.sh"
# One for all peers of this backend.
venv=$peers_cache/ec2/venv

# On the host: the root, in which the rest is done.
if [ -z "${PEER_INSIDE:-}" ]; then
    build_root ec2
    if [ -z "${PEER_INSTALL_ONLY:-}" ]; then
        set_up_root
        enter_root "$@"
    fi
    if find_holder; then
        enter_root
    fi
    set_up_root
    (enter_root)
    stop_root
    exit
fi

if [ ! -x "$venv/bin/pip" ] || ! "$venv/bin/python" -c 'import venv' 2>/dev/null; then
    rm -rf "$venv"
    python3 -m venv "$venv"
fi
if ! cmp -s "$here/requirements.txt" "$venv/installed"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed"
fi
# Its caller wants no server yet.
[ -z "${PEER_INSTALL_ONLY:-}" ] || exit 0

# Whether the server that was started runs: its number and start time say so.
is_running() {
    local pid start
    read -r pid start 2>/dev/null <"$PEER_STATE/pid" && [ "$(start_time "$pid")" = "$start" ]
}
if ! is_running; then
    port=$("$venv/bin/python" -c \
        'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # Without a look at real image lists on the network, and in a session of its own.
    setsid "$venv/bin/python" "$here/serve.py" -H 127.0.0.1 -p "$port" \
        >"$PEER_STATE/log" 2>&1 </dev/null &
    echo "$! $(start_time $!)" >"$PEER_STATE/pid"
    echo "$port" >"$PEER_STATE/port"
fi
url="http://127.0.0.1:$(cat "$PEER_STATE/port")"
tries=0
until "$venv/bin/python" -c \
    "import urllib.request; urllib.request.urlopen('$url/moto-api/', timeout=2)" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 120 ] || ! is_running; then
        echo "moto does not answer at $url; the end of its log:" >&2
        tail -n 40 "$PEER_STATE/log" >&2
        exit 1
    fi
    sleep 0.5
done
wrap "$venv/bin/python" unshare
{
    echo "EC2_PEER_URL=$url"
    echo "EC2_PEER_PYTHON=$PEER_STATE/bin/python"
    echo "EC2_PEER_LOOK=$here/look.py"
    # A folder that can be the top of an overlay, what boots in it, and `unshare` in the peer's root.
    echo "EC2_PEER_MACHINES=$PEER_STATE/machines"
    echo "EC2_PEER_MACHINE_SCRIPTS=$(readlink -f -- "$here/../openstack/machine")"
    echo "EC2_PEER_UNSHARE=$PEER_STATE/bin/unshare"
    # moto takes any credentials; the account of these is 123456789012.
    echo "AWS_ACCESS_KEY_ID=peer"
    echo "AWS_SECRET_ACCESS_KEY=peer"
    # A case mostly waits for machines that boot.
    echo "CONFORMANCE_THREADS=6"
    [ "${1:-}" != ssm ] || echo "EC2_PEER_GUEST=ssm"
} >"$PEER_STATE/env"
