#!/bin/bash
# Ends libvirtd of a host, as a crash would, and starts it again. Guests go on.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "$0")")
root=$(readlink -f -- "$here/../../..")
: "${PEER_STATE:?set it to an absolute folder}"
# shellcheck source=lib.sh
. "$here/lib.sh"
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
