# Runs as root in mount and IPC namespaces of its own: hides the folders that every user may write
# to, adds the runner's user, and becomes that user.
set -eu
folder=$1 shared=$2 stage=$3 uid=$4 job_path=$5
shift 5
hidden() {
    case $1/ in
    /tmp/* | /var/tmp/* | /dev/shm/* | /run/lock/*) return 0 ;;
    *) return 1 ;;
    esac
}
base=$folder
if hidden "$folder"; then
    base=$stage/folder
    mount --bind "$folder" "$base"
fi
if hidden "$shared"; then
    mount --bind "$shared" "$stage/runner"
fi
mount --bind "$base/tmp" /tmp
if [ -d /var/tmp ] && [ ! -L /var/tmp ]; then
    mount --bind "$base/var-tmp" /var/tmp
fi
if [ -d /dev/shm ] && [ ! -L /dev/shm ]; then
    mount -t tmpfs -o nosuid,nodev,mode=1777,size=25% tmpfs /dev/shm
fi
if [ -d /run/lock ] && [ ! -L /run/lock ]; then
    mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=5m tmpfs /run/lock
fi
if [ -d /dev/mqueue ] && [ ! -L /dev/mqueue ]; then
    mount -t mqueue mqueue /dev/mqueue || mount -t tmpfs -o ro tmpfs /dev/mqueue
fi
mount --bind "$base/passwd" /etc/passwd
mount --bind "$base/group" /etc/group
if hidden "$folder"; then
    mkdir -p "$folder"
    mount --move "$base" "$folder"
fi
if hidden "$shared"; then
    mkdir -p "$shared"
    mount --move "$stage/runner" "$shared"
fi
cd "$folder/runner"
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs \
    env "PATH=$job_path" /bin/sh "$folder/wrapper.sh" "$@"
