#!/bin/bash
# Makes the mounts of a peer's root, in a mount namespace that it was started in, and keeps it:
# processes enter it by this one's pid, and the mounts end with the last process.
#
# usage: hold.sh ROOT STATE BIND…
# ROOT    the root file system, which stays as it is: what is written to it is in memory
# STATE   the folder of the peer's state
# BIND    folders of the host that are seen inside at the same path
set -euo pipefail
rootfs=$1 state=$2
shift 2
# Nobody removes the root file system while this lock is held.
exec 8<"$rootfs"
flock --shared --nonblock 8

top=$state/chroot
mkdir -p "$top"
# Not seen by the host, and gone with the namespace.
mount -t tmpfs -o mode=755 chroot "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay -o "lowerdir=$rootfs,upperdir=$top/upper,workdir=$top/work" chroot "$top/root"
cd "$top/root"
for folder in proc sys dev; do
    mount --rbind "/$folder" "$folder"
done
mount -t tmpfs -o mode=755 run run
mkdir -p run/lock .outside
for file in /etc/resolv.conf /etc/hosts /etc/hostname /etc/pip.conf; do
    [ ! -e "$file" ] || cp --remove-destination --dereference "$file" ".$file"
done
# Networks with an authority of their own need its certificate.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    mkdir -p etc/ssl/certs
    cp --dereference /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/
fi
for folder in "$@"; do
    mkdir -p ".$folder"
    mount --bind "$folder" ".$folder"
done
# A real root, and not `chroot`: containers of a peer make roots of their own in the same way.
pivot_root . .outside
umount --lazy /.outside
rmdir /.outside
read -r line <"/proc/$$/stat"
line=${line##*) }
# shellcheck disable=SC2086  # The fields after the program's name, of which the 20th is wanted.
set -- $line
echo "$$ ${20} $rootfs" >"$state/chroot.new"
mv "$state/chroot.new" "$state/chroot.pid"
exec sleep infinity
