#!/bin/bash
# Starts the peer of the libvirt backend; README.md says what it is. Needs root, Debian 12 and
# PEER_STATE, an absolute folder. Does nothing where everything runs already.
set -euo pipefail
umask 022
here=$(dirname -- "$(readlink -f -- "$0")")
root=$(readlink -f -- "$here/../../..")
: "${PEER_STATE:?set it to an absolute folder}"
# shellcheck source=lib.sh
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || fail 'start this as root'
[ -e /etc/debian_version ] || fail 'this peer is made of packages of Debian'
mkdir -p "$PEER_STATE" "$cache"

install_packages
make_kernel
if [ -n "${PEER_INSTALL_ONLY:-}" ]; then
    "$here/../rootfs/build.sh" "${PEER_STATE%/*}/rootfs"
    exit
fi
program=$(build_runner)
make_image "$program"
for host in $hosts; do
    start_host "$host"
done
{
    echo "PEER_STATE=$PEER_STATE"
    for host in $hosts; do
        echo "LIBVIRT_SOCKET_${host^^}=$PEER_STATE/$host/run/libvirt-sock"
        echo "LIBVIRT_POOL_${host^^}=$PEER_STATE/$host/lib/images"
    done
    echo "LIBVIRT_KERNEL=$cache/vmlinuz"
    echo "LIBVIRT_INITRD=$cache/initrd"
} >"$PEER_STATE/env.new"
mv "$PEER_STATE/env.new" "$PEER_STATE/env"
