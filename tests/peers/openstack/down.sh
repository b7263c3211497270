#!/usr/bin/env bash
# Stops exactly what up.sh started, and removes its network namespace. The state stays; `--wipe`
# removes it too.
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
rm -f "$STATE/env"
if [ "${1:-}" = --wipe ]; then rm -rf "$STATE"; fi
