# shellcheck shell=bash
# What the peers of LXD and Incus share. Sourced by their up.sh and down.sh, which set:
# KIND      lxd or incus
# CLI       the command-line client
# DAEMON    the daemon
# PEER_STATE comes from the caller: the absolute folder of everything that the peer keeps.
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
root=$(readlink -f -- "$here/../../..")
data=$PEER_STATE/data
socket=$data/unix.socket
pid_file=$PEER_STATE/daemon.pid
log=$PEER_STATE/daemon.log
# Both programs of both kinds; the other kind's are not read.
export LXD_DIR=$data INCUS_DIR=$data
export LXD_CONF=$PEER_STATE/client INCUS_CONF=$PEER_STATE/client

fail() {
    echo "peer $KIND: $1" >&2
    if [ -s "$log" ]; then
        echo "the end of $log:" >&2
        tail -n 30 "$log" >&2
    fi
    exit 1
}

# The 22nd field of stat: with the pid it names one process and no later one.
started_at() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

# The pid of the daemon that this peer started, if it lives.
daemon_pid() {
    local pid start
    read -r pid start 2>/dev/null <"$pid_file" || return 1
    [ "$(started_at "$pid")" = "$start" ] || return 1
    echo "$pid"
}

# Installs packages without starting what they bring. apt's options come first.
install_packages() {
    local policy=/usr/sbin/policy-rc.d made=''
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=yes
    fi
    # An archive of its own: others clean the shared one after every run.
    mkdir -p "$PEER_STATE/archives/partial"
    apt-get -o DPkg::Lock::Timeout=900 -o Dir::Cache::archives="$PEER_STATE/archives" -qq -y \
        --no-install-recommends "$@" >"$PEER_STATE/apt.log" 2>&1 ||
        { tail -n 20 "$PEER_STATE/apt.log" >&2; fail "cannot install packages"; }
    if [ -n "$made" ]; then
        rm $policy
    fi
}

# Ends the script where its caller wants no server yet, with all that can be had without one.
end_if_only_installed() {
    if [ -n "${PEER_INSTALL_ONLY:-}" ]; then
        "$here/../rootfs/build.sh" "$(dirname "$PEER_STATE")/rootfs" || fail 'cannot build the root file system'
        exit 0
    fi
}

start_daemon() {
    if daemon_pid >/dev/null; then
        return
    fi
    # The longest path of a socket is 107 bytes, and the daemon makes some below its folder.
    [ ${#data} -le 80 ] || fail "the path $data is too long for the daemon's sockets; check out elsewhere"
    mkdir -p "$data" "$LXD_CONF"
    # In memory: the server syncs its database to disk for every change, and nothing here is kept.
    mountpoint -q "$data" || mount -t tmpfs -o mode=0711,size=8g tmpfs "$data"
    setsid "$DAEMON" --group root </dev/null >>"$log" 2>&1 &
    local pid=$!
    echo "$pid $(started_at "$pid")" >"$pid_file"
    timeout 60 "$DAEMON" waitready --timeout 55 >/dev/null 2>&1 || fail 'the daemon is not ready in time'
}

# The kernel's usual limit for one user, 128, ends at some thirty containers: the init of each takes
# a few, and all containers count as root's. `peer_down` puts it back.
raise_inotify() {
    local limit=/proc/sys/fs/inotify/max_user_instances
    if [ "$(cat $limit)" -lt 4096 ]; then
        cat $limit >"$PEER_STATE/inotify"
        echo 4096 >$limit || fail "cannot raise $limit; it must be 4096 at least"
    fi
}

# Snapshots make an instance in a fraction of a second; a plain folder would be copied each time.
# The volumes of instances have a pool of folders: they have sizes, and the first size turns on the
# quotas of btrfs, under which every snapshot waits for the accounts of those that went before.
make_pools() {
    "$CLI" storage show plain >/dev/null 2>&1 || "$CLI" storage create plain dir >/dev/null
    if "$CLI" storage show default >/dev/null 2>&1; then
        return
    fi
    if grep -qw btrfs /proc/filesystems && [ -e /dev/loop-control ]; then
        "$CLI" storage create default btrfs size=6GiB >/dev/null
    else
        "$CLI" storage create default dir >/dev/null
    fi
    "$CLI" profile device add default root disk path=/ pool=default >/dev/null
}

# Imports the image `runner`, unless that of this root file system is there already.
make_image() {
    local rootfs=$1 known=$PEER_STATE/image stage
    if [ "$(cat "$known" 2>/dev/null)" = "$rootfs" ] && "$CLI" image show runner >/dev/null 2>&1; then
        return
    fi
    "$CLI" image delete runner >/dev/null 2>&1 || true
    stage=$(mktemp -d "$PEER_STATE/stage.XXXXXX")
    tar -cf "$stage/metadata.tar" --owner=root --group=root -C "$here/image" metadata.yaml templates
    "$CLI" image import "$stage/metadata.tar" "$rootfs" --alias runner >/dev/null
    rm -rf "$stage"
    echo "$rootfs" >"$known"
}

# A port for HTTPS and a client that the server trusts.
make_https() {
    local port
    port=$("$CLI" config get core.https_address | sed 's/.*://')
    if [ -z "$port" ]; then
        port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        "$CLI" config set core.https_address "127.0.0.1:$port"
    fi
    for name in client stranger; do
        if [ ! -e "$PEER_STATE/$name.key" ]; then
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
                -subj "/CN=runner-manager-$name" -keyout "$PEER_STATE/$name.key" \
                -out "$PEER_STATE/$name.crt" 2>/dev/null
            chmod 600 "$PEER_STATE/$name.key"
        fi
    done
    if ! "$CLI" config trust list --format csv | grep -q runner-manager-client; then
        "$CLI" config trust "${TRUST[@]}" "$PEER_STATE/client.crt" >/dev/null
    fi
    echo "$port"
}

write_env() {
    cat >"$PEER_STATE/env.new" <<EOF
PEER_KIND=$KIND
PEER_SOCKET=$socket
PEER_CLI=$CLI
PEER_DATA=$data
PEER_STATE=$PEER_STATE
PEER_IMAGE=runner
PEER_RUNNER=$program
PEER_POOL=default
PEER_URL=https://127.0.0.1:$1
LXD_DIR=$data
LXD_CONF=$LXD_CONF
INCUS_DIR=$data
INCUS_CONF=$INCUS_CONF
EOF
    mv "$PEER_STATE/env.new" "$PEER_STATE/env"
}

peer_up() {
    [ "$(id -u)" -eq 0 ] || fail 'run this as root: the server makes mounts and namespaces'
    mkdir -p "$PEER_STATE"
    local program=${PEER_RUNNER:-} rootfs target=${CARGO_TARGET_DIR:-$root/target}
    if [ -z "$program" ]; then
        program=$target/debug/github-sim
        (cd "$root" && "${CARGO:-cargo}" build --quiet --package runner-manager-github-sim) ||
            fail 'cannot build the stand-in runner'
    fi
    rootfs=$("$here/../rootfs/build.sh" "$(dirname "$PEER_STATE")/rootfs" "$program" | tail -n 1) ||
        fail 'cannot build the root file system'
    raise_inotify
    start_daemon
    make_pools
    make_image "$rootfs"
    write_env "$(make_https)"
}

# Deletes the instances of all projects of this peer's own server.
delete_instances() {
    local project name
    timeout 30 "$CLI" list --all-projects --format csv --columns en 2>/dev/null |
        while IFS=, read -r project name; do
            timeout 60 "$CLI" delete --force --project "$project" "$name" >/dev/null 2>&1 || true
        done
}

# Ends what the daemon's helpers keep alive when it cannot be asked any more: the processes of its
# program that were started for this data folder, and their children, the instances.
end_helpers() {
    local program pid
    program=$(readlink -f "$(command -v "$DAEMON")")
    for pid in $(cd /proc && echo [0-9]*); do
        if [ "$(readlink "/proc/$pid/exe")" = "$program" ] &&
            tr '\0' '\n' <"/proc/$pid/environ" | grep -qx -e "LXD_DIR=$data" -e "INCUS_DIR=$data"; then
            pkill -KILL -P "$pid" || true
            kill -KILL "$pid" || true
        fi
    done 2>/dev/null
}

# Stops exactly what was started: the server, and the instances that it hosts.
peer_down() {
    local pid
    if pid=$(daemon_pid); then
        delete_instances || true
        kill "$pid"
        for _ in $(seq 150); do
            if ! daemon_pid >/dev/null; then
                break
            fi
            sleep 0.2
        done
    fi
    end_helpers
    rm -f "$pid_file"
    # What the daemon leaves mounted would keep its folder from ever being removed.
    awk -v below="$data/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r point; do
            umount -l "$point" || true
        done
    if mountpoint -q "$data"; then
        umount -l "$data"
    fi
    if [ -e "$PEER_STATE/inotify" ]; then
        cat "$PEER_STATE/inotify" >/proc/sys/fs/inotify/max_user_instances
        rm "$PEER_STATE/inotify"
    fi
    for file in subuid subgid; do
        if [ -e "$PEER_STATE/$file" ]; then
            grep -vxFf /etc/$file "$PEER_STATE/$file" >>/etc/$file || true
            rm "$PEER_STATE/$file"
        fi
    done
}
