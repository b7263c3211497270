# shellcheck shell=bash
# What up.sh and down.sh share inside the peer's root: where everything is, and the processes that
# were started.
set -Eeuo pipefail
export LC_ALL=C.UTF-8
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
unset "${!OS_@}" 2>/dev/null || true
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STATE=${PEER_STATE:?set PEER_STATE to the absolute path of a folder for the state of this peer}
IP=127.0.0.1
KEYSTONE=15000 GLANCE=19292 PLACEMENT=18778 NOVA=18774 NEUTRON=19696 CINDER=18776
AMQP=25670 MEMCACHED=21211 EPMD=24369 DIST=25671
REGION=RegionOne
# The servers' subnet, the network namespace that owns it, and the link to it.
SUBNET=10.20.0.0/22 NETNS=rm-openstack LINK=rm-os
OUTER=172.31.255.1 INNER=172.31.255.2

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() {
    say "FAILED: $*"
    exit 1
}

# Whether the process of a pid file is still the one that was started: the start time says so.
alive() {
    local pid started
    read -r pid started 2>/dev/null <"$STATE/run/$1.pid" || return 1
    [ "$(start_time "$pid")" = "$started" ]
}

# NAME COMMAND…: starts a process in a session of its own, unless it runs.
start() {
    local name=$1 pid
    shift
    if alive "$name"; then return 0; fi
    setsid "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid $(start_time "$pid")" >"$STATE/run/$name.pid"
}

# GRACE NAME…: ends processes and their sessions, kindly for GRACE tenths of a second.
stop() {
    local grace=$1 name pid rest left=() still
    shift
    for name in "$@"; do
        if alive "$name"; then
            read -r pid rest <"$STATE/run/$name.pid"
            kill -TERM -- "-$pid" 2>/dev/null || true
            left+=("$pid")
        fi
        rm -f "$STATE/run/$name.pid"
    done
    for ((; grace > 0; grace--)); do
        still=''
        for pid in "${left[@]}"; do
            if kill -0 -- "-$pid" 2>/dev/null; then still=yes; fi
        done
        if [ -z "$still" ]; then return 0; fi
        sleep 0.1
    done
    for pid in "${left[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
}

# NAME SECONDS COMMAND…: waits until the command succeeds.
wait_for() {
    local name=$1 end=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ -e "$STATE/run/$name.pid" ] && ! alive "$name"; then
            tail -n 30 "$STATE/log/$name.log"
            die "$name ended"
        fi
        if [ $SECONDS -ge $end ]; then
            tail -n 30 "$STATE/log/$name.log"
            die "$name is not ready in time"
        fi
        sleep 0.2
    done
}

port_is_open() { (exec 3<>"/dev/tcp/$IP/$1") 2>/dev/null; }
answers() { curl -s -o /dev/null -m 5 --noproxy '*' "$1"; }
sql() { mariadb --no-defaults -uroot -S "$STATE/run/mysql.sock" -N "$@"; }
