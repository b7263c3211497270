#!/bin/sh
# Starts moto's server, which stands in for EC2, on a free port of loopback. Idempotent.
# Writes to $PEER_STATE/env how it is reached. See README.md.
set -eu
: "${PEER_STATE:?names the folder of the state of this peer}"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/server.sh"
# One for all peers of this backend.
venv=$(dirname "$PEER_STATE")/ec2/venv
mkdir -p "$PEER_STATE" "$(dirname "$venv")"

if ! "$venv/bin/python" -c 'import venv' 2>/dev/null; then
    rm -rf "$venv"
    if ! python3 -m venv "$venv"; then
        rm -rf "$venv"
        apt-get -o DPkg::Lock::Timeout=900 install -y --no-install-recommends python3-venv
        python3 -m venv "$venv"
    fi
fi
if ! cmp -s "$here/requirements.txt" "$venv/installed"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed"
fi
# Its caller wants no server yet.
[ -z "${PEER_INSTALL_ONLY:-}" ] || exit 0

if ! is_running; then
    port=$("$venv/bin/python" -c \
        'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # Without a look at real image lists on the network, and in a session of its own.
    setsid "$venv/bin/python" "$here/serve.py" -H 127.0.0.1 -p "$port" \
        >"$PEER_STATE/log" 2>&1 </dev/null &
    remember $!
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
{
    echo "EC2_PEER_URL=$url"
    echo "EC2_PEER_PYTHON=$venv/bin/python"
    echo "EC2_PEER_LOOK=$here/look.py"
    # A folder that can be the top of an overlay, and what boots in it.
    echo "EC2_PEER_MACHINES=$PEER_STATE/machines"
    echo "EC2_PEER_MACHINE_SCRIPTS=$(cd "$here/../openstack/machine" && pwd)"
    # moto takes any credentials; the account of these is 123456789012.
    echo "AWS_ACCESS_KEY_ID=peer"
    echo "AWS_SECRET_ACCESS_KEY=peer"
    # A case mostly waits for machines that boot.
    echo "CONFORMANCE_THREADS=6"
} >"$PEER_STATE/env"
