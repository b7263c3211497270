#!/bin/bash
# Ends libvirtd of a host, as a crash would, and starts it again. Guests go on.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "$(readlink -f -- "$0")")/lib.sh"
if [ -z "${PEER_INSIDE:-}" ]; then
    find_holder || fail 'the peer is not up'
    enter_root "$@"
fi
dir=$PEER_STATE/$1
is_running "$dir/libvirtd.is" || fail "libvirtd of host $1 does not run"
read -r pid _ <"$dir/libvirtd.is"
read -r logger _ <"$dir/virtlogd.is"
kill -9 "$pid"
gone() { ! is_running "$dir/libvirtd.is"; }
wait_for 100 gone || fail 'libvirtd does not end'
sleep "${2:-0}"
rm -f "$dir/run/libvirtd.pid"
nsenter --mount="/proc/$logger/ns/mnt" libvirtd --daemon \
    --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid
remember "$dir/run/libvirtd.pid" "$dir/libvirtd.is"
wait_for 600 virsh_on "$1" uri || fail "host $1 gives no answer"
