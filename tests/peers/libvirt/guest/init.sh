#!/bin/bash
# A guest's init without systemd, which takes seconds instead of minutes where QEMU translates
# every instruction: the network, the guest agent, and the seed's user-data, run by seed.py as
# cloud-init would.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /run/seed /run/lock
mount -t devpts devpts /dev/pts

ip link set lo up
ip link set eth0 up
if [ -e /sys/class/net/eth0 ]; then
    # QEMU's user-mode network: fixed addresses, and 10.0.2.2 is the host.
    ip address add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
    echo 'nameserver 10.0.2.3' >/etc/resolv.conf
fi

for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ]; then
        qemu-ga --daemonize --method virtio-serial --path "/dev/${port##*/}" \
            --statedir /run --pidfile /run/qemu-ga.pid
    fi
done

for word in $(cat /proc/cmdline); do
    case $word in
    guest.relay=*) /usr/local/lib/guest/relay.py "${word#guest.relay=}" & ;;
    esac
done

mount -o ro /dev/vdb /run/seed
hostname "$(sed -n 's/.*"local-hostname":"\([^"]*\)".*/\1/p' /run/seed/meta-data)"
# The seed's credential is for root alone, as cloud-init has it.
(umask 077 && cp /run/seed/user-data /run/user-data)
umount /run/seed
/usr/local/lib/guest/seed.py /run/user-data >/dev/console 2>&1

while :; do
    sleep 3600 &
    wait
done
