# shellcheck shell=bash
# A peer's root: how up.sh and down.sh get into it, and out again. Sourced, with `set -euo pipefail`.
# README.md says what it is. PEER_STATE is the folder of the peer's state.
chroot_scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
checkout=$(readlink -f -- "$chroot_scripts/../../..")
: "${PEER_STATE:?set it to the absolute path of a folder for the state of this peer}"
# Without symbolic links, which could lead to places that the root has not.
PEER_STATE=$(readlink -m -- "$PEER_STATE")
export PEER_STATE
peers_cache=$(dirname "$PEER_STATE")

# The 22nd field of stat: with the pid it names one process and no later one.
start_time() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

# Sets `holder` to the pid of the process that keeps the root, if it lives, and `held` to the root.
find_holder() {
    local start
    holder='' held=''
    read -r holder start held 2>/dev/null <"$PEER_STATE/chroot.pid" || return 1
    [ -n "$start" ] && [ "$(start_time "$holder")" = "$start" ]
}

# NAME: on the host; builds the root file system of a peer, and sets `root` to it.
build_root() {
    [ "$(id -u)" -eq 0 ] || { echo 'run this as root: the peer has mounts of its own' >&2; exit 1; }
    mkdir -p "$PEER_STATE"
    root=$("$chroot_scripts/build.sh" "$peers_cache" "$1")
}

# BIND…: on the host; sets `root` up, unless it is. These folders are mounts of their own.
set_up_root() {
    local path tries
    if find_holder && [ "$held" = "$root" ]; then
        return
    fi
    # What runs in an older root file system, or was left by a holder that was killed.
    stop_root
    for path in "$checkout" "$peers_cache" /tmp "${TMPDIR:-/tmp}" "${PEER_RUNNER:+$(dirname "$PEER_RUNNER")}" "$PEER_STATE" "$@"; do
        [ -z "$path" ] || readlink -f -- "$path"
    done | awk '!seen[$0]++' >"$PEER_STATE/chroot.binds"
    mapfile -t binds <"$PEER_STATE/chroot.binds"
    rm -f "$PEER_STATE/chroot.pid"
    setsid unshare --mount --propagation private "$chroot_scripts/hold.sh" "$root" "$PEER_STATE" \
        "${binds[@]}" </dev/null >"$PEER_STATE/chroot.log" 2>&1 9>&- &
    disown
    for ((tries = 0; tries < 400; tries++)); do
        if find_holder; then
            return
        fi
        [ -d "/proc/$!" ] || break
        sleep 0.05
    done
    cat "$PEER_STATE/chroot.log" >&2
    echo "the root of this peer cannot be set up" >&2
    return 1
}

# ARGUMENT…: runs the script that is running once more, inside; what follows is not reached.
enter_root() {
    export PEER_INSIDE=yes PEER_OUTER_PATH=${PEER_OUTER_PATH:-$PATH}
    unset LD_LIBRARY_PATH PYTHONHOME PYTHONPATH VIRTUAL_ENV
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        exec nsenter "--mount=/proc/$holder/ns/mnt" -- "$(readlink -f -- "$0")" "$@"
}

# PROGRAM…: writes a program to PEER_STATE/bin for each, which is the one of that name inside.
wrap() {
    local program
    mkdir -p "$PEER_STATE/bin"
    for program in "$@"; do
        # Whoever runs it meanwhile has the old one or the new one.
        sed -e "s|@STATE@|$PEER_STATE|" -e "s|@PROGRAM@|$program|" "$chroot_scripts/wrapper.sh" \
            >"$PEER_STATE/wrapper.new"
        chmod 755 "$PEER_STATE/wrapper.new"
        mv "$PEER_STATE/wrapper.new" "$PEER_STATE/bin/${program##*/}"
    done
}

# Ends what runs in the root still, with its children, which may have a root of their own: containers.
# The holder is among them, and the mounts end with it.
stop_root() {
    local path pid tries left own="upperdir=$PEER_STATE/chroot/upper"
    for ((tries = 0; tries < 100; tries++)); do
        # Other mount namespaces that were made inside have the same root.
        mapfile -t left < <(grep -ls -- " / / .*$own" /proc/[0-9]*/mountinfo)
        [ ${#left[@]} -gt 0 ] || break
        for path in "${left[@]}"; do
            pid=${path#/proc/}
            pid=${pid%/mountinfo}
            # shellcheck disable=SC2046  # Each pid is a word.
            kill -KILL "$pid" $(cat "/proc/$pid"/task/*/children 2>/dev/null) 2>/dev/null || true
        done
        sleep 0.05
    done
    [ ${#left[@]} -eq 0 ] || { echo "processes of this peer do not end: ${left[*]}" >&2; return 1; }
    rm -f "$PEER_STATE/chroot.pid"
}
