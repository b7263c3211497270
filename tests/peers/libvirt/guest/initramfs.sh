#!/bin/busybox sh
# The first program of a guest: loads what its disks need and hands over to the root file system.
/bin/busybox mkdir -p /proc /dev /sysroot
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do
    /bin/busybox insmod "/modules/$module"
done </modules/order
/bin/busybox mount -t ext4 -o noatime /dev/vda /sysroot || exec /bin/busybox poweroff -f
init=/sbin/init
for word in $(/bin/busybox cat /proc/cmdline); do
    case $word in
    guest.init=*) init=${word#guest.init=} ;;
    esac
done
/bin/busybox mount --move /dev /sysroot/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /sysroot "$init"
