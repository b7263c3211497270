#!/usr/bin/env bash
# Stops exactly what up.sh started, and removes its network namespace. The state stays; `--wipe`
# removes it too, but for the root file system.
set -Eeuo pipefail
# shellcheck source=../chroot/enter.sh
. "$(dirname "${BASH_SOURCE[0]}")/../chroot/enter.sh"
if [ -z "${PEER_INSIDE:-}" ]; then
    if find_holder; then
        (enter_root) || true
    fi
    stop_root
    rm -f "$PEER_STATE/env"
    if [ "${1:-}" = --wipe ]; then
        find "$PEER_STATE" -mindepth 1 -maxdepth 1 ! -name 'rootfs*' -exec rm -rf --one-file-system {} +
    fi
    exit
fi
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# First what boots machines, so that none comes after those that are stopped.
stop 50 nova-compute
if [ -d "$STATE/machines" ]; then
    for folder in "$STATE"/machines/*/; do
        if [ -s "$folder/pid" ]; then python3 "$HERE/python/machines.py" stop "$folder" || true; fi
    done
fi
stop 50 nova-api nova-scheduler nova-conductor cinder-api cinder-scheduler cinder-volume \
    neutron glance placement keystone
stop 30 rabbitmq memcached
stop 10 epmd
stop 150 mariadb
ip link delete "$LINK" 2>/dev/null || true
ip netns delete "$NETNS" 2>/dev/null || true
