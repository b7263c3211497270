#!/bin/bash
# Starts the peer of the libvirt backend; README.md says what it is. Needs root, a Debian host and
# PEER_STATE, an absolute folder. Does nothing where everything runs already.
set -euo pipefail
umask 022
# shellcheck source=lib.sh
. "$(dirname -- "$(readlink -f -- "$0")")/lib.sh"

if [ -z "${PEER_INSIDE:-}" ]; then
    build_root libvirt
    mkdir -p "$cache"
    fetch_kernel
    if [ -n "${PEER_INSTALL_ONLY:-}" ]; then
        "$here/../rootfs/build.sh" "$peers_cache/rootfs" >/dev/null
        exit
    fi
    build_runner
    PEER_ROOTFS=$("$here/../rootfs/build.sh" "$peers_cache/rootfs" "$PEER_RUNNER" | tail -n 1)
    export PEER_ROOTFS
    set_up_root
    enter_root
fi
make_kernel
make_image
for host in $hosts; do
    start_host "$host"
done
wrap virsh
{
    echo "PEER_STATE=$PEER_STATE"
    for host in $hosts; do
        echo "LIBVIRT_SOCKET_${host^^}=$PEER_STATE/$host/run/libvirt-sock"
        echo "LIBVIRT_POOL_${host^^}=$PEER_STATE/$host/lib/images"
    done
    echo "LIBVIRT_KERNEL=$cache/vmlinuz"
    echo "LIBVIRT_INITRD=$cache/initrd"
    echo "LIBVIRT_VIRSH=$PEER_STATE/bin/virsh"
} >"$PEER_STATE/env.new"
mv "$PEER_STATE/env.new" "$PEER_STATE/env"
