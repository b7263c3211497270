# shellcheck shell=bash
# What the peers of LXD and Incus share. Sourced by their up.sh and down.sh, which set:
# KIND      lxd or incus
# CLI       the command-line client
# DAEMON    the daemon
# PEER_STATE comes from the caller: the absolute folder of everything that the peer keeps.
# The scripts run on the host first, and then again inside the peer's root.
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=../chroot/enter.sh
. "$here/../chroot/enter.sh"
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

# The pid of the daemon that this peer started, if it lives.
daemon_pid() {
    local pid start
    read -r pid start 2>/dev/null <"$pid_file" || return 1
    [ "$(start_time "$pid")" = "$start" ] || return 1
    echo "$pid"
}

start_daemon() {
    if daemon_pid >/dev/null; then
        return
    fi
    mkdir -p "$LXD_CONF"
    setsid "$DAEMON" --group root </dev/null >>"$log" 2>&1 &
    local pid=$!
    echo "$pid $(start_time "$pid")" >"$pid_file"
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
    local port name print trusted
    port=$("$CLI" config get core.https_address | sed 's/.*://')
    if [ -z "$port" ]; then
        # Below those that the kernel gives to connections.
        until port=$((20000 + RANDOM % 12000)) && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
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
    print=$(openssl x509 -in "$PEER_STATE/client.crt" -noout -fingerprint -sha256 | sed 's/.*=//; s/://g')
    trusted=$("$CLI" config trust list --format csv)
    if [[ $trusted != *"$(tr A-F a-f <<<"${print:0:12}")"* ]]; then
        "$CLI" config trust "${TRUST[@]}" "$PEER_STATE/client.crt" >/dev/null
    fi
    echo "$port"
}

write_env() {
    cat >"$PEER_STATE/env.new" <<EOF
PEER_KIND=$KIND
PEER_SOCKET=$socket
PEER_CLI=$PEER_STATE/bin/$CLI
PEER_DATA=$data
PEER_STATE=$PEER_STATE
PEER_IMAGE=runner
PEER_RUNNER=$PEER_RUNNER
PEER_POOL=default
PEER_URL=https://127.0.0.1:$1
LXD_DIR=$data
LXD_CONF=$LXD_CONF
INCUS_DIR=$data
INCUS_CONF=$INCUS_CONF
PATH=$PEER_STATE/bin:${PEER_OUTER_PATH#"$PEER_STATE/bin:"}
EOF
    mv "$PEER_STATE/env.new" "$PEER_STATE/env"
}

# On the host: builds what can be built without a server, and enters the root.
prepare() {
    local target=${CARGO_TARGET_DIR:-$checkout/target}
    build_root "$KIND"
    mkdir -p "$data"
    if [ -n "${PEER_INSTALL_ONLY:-}" ]; then
        "$here/../rootfs/build.sh" "$peers_cache/rootfs" >/dev/null
        exit 0
    fi
    # The longest path of a socket is 107 bytes, and the daemon makes some below its folder.
    [ ${#data} -le 80 ] || fail "the path $data is too long for the daemon's sockets; check out elsewhere"
    if [ -z "${PEER_RUNNER:-}" ]; then
        export PEER_RUNNER=$target/debug/github-sim
        (cd "$checkout" && "${CARGO:-cargo}" build --quiet --package runner-manager-github-sim) ||
            fail 'cannot build the stand-in runner'
    fi
    PEER_ROOTFS=$("$here/../rootfs/build.sh" "$peers_cache/rootfs" "$PEER_RUNNER" | tail -n 1) ||
        fail 'cannot build the root file system of the guests'
    export PEER_ROOTFS
    # In memory: the server syncs its database to disk for every change, and nothing here is kept.
    # Here, since tests on the host reach the server's sockets by this path.
    mountpoint -q "$data" || mount -t tmpfs -o mode=0711,size=8g tmpfs "$data"
    set_up_root "$data"
    enter_root
}

peer_up() {
    [ -n "${PEER_INSIDE:-}" ] || prepare
    raise_inotify
    start_daemon
    make_pools
    make_image "$PEER_ROOTFS"
    wrap "$CLI"
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

# Inside: ends the instances and the server as an operator would.
end_server() {
    local pid
    pid=$(daemon_pid) || return 0
    delete_instances || true
    kill "$pid"
    for _ in $(seq 150); do
        if ! daemon_pid >/dev/null; then
            break
        fi
        sleep 0.2
    done
}

# Stops exactly what was started: the server, the instances that it hosts, and the peer's root.
peer_down() {
    if [ -n "${PEER_INSIDE:-}" ]; then
        end_server
        return
    fi
    if find_holder; then
        (enter_root) || true
    fi
    stop_root
    rm -f "$pid_file"
    if mountpoint -q "$data"; then
        umount "$data"
    fi
    if [ -e "$PEER_STATE/inotify" ]; then
        cat "$PEER_STATE/inotify" >/proc/sys/fs/inotify/max_user_instances
        rm "$PEER_STATE/inotify"
    fi
}
