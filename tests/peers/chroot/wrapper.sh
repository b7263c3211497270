#!/bin/sh
# @PROGRAM@ of a peer, which runs inside the peer's root.
state=@STATE@
read -r pid start _ <"$state/chroot.pid" || { echo "$0: the peer is not up" >&2; exit 127; }
started() {
    read -r line <"/proc/$pid/stat" || return
    line=${line##*) }
    # shellcheck disable=SC2086  # The fields after the program's name.
    set -- $line
    shift 19
    echo "$1"
}
[ "$(started)" = "$start" ] || { echo "$0: the peer has ended" >&2; exit 127; }
unset LD_LIBRARY_PATH PYTHONHOME PYTHONPATH VIRTUAL_ENV
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec nsenter "--mount=/proc/$pid/ns/mnt" -- \
    /bin/sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "@PROGRAM@" "$@"
