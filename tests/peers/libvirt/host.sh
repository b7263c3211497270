#!/bin/bash
# Starts the daemons of one host. Runs in a mount namespace of its own, which they keep.
set -euo pipefail
dir=$1
mkdir -p /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /run/libvirt
mount --bind "$dir/etc" /etc/libvirt
mount --bind "$dir/lib" /var/lib/libvirt
mount --bind "$dir/log" /var/log/libvirt
mount --bind "$dir/cache" /var/cache/libvirt
mount --bind "$dir/run" /run/libvirt
if [ -e /dev/kvm ]; then
    # Read-only: libvirt takes a device that it can write to for a sign that KVM has come, and asks
    # QEMU anew with each guest.
    mount --bind "$dir/no-kvm" /dev/kvm
    mount -o remount,bind,ro /dev/kvm
fi
export LIBVIRT_AUTOSTART=0
virtlogd --daemon --config /etc/libvirt/virtlogd.conf --pid-file /run/libvirt/virtlogd.pid
libvirtd --daemon --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid
