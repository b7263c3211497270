# Runs in a session of its own, as the manager's user, until it hears `go`.
# Arguments: folder, cgroup or "", shared runner folder, stage, uid or "", then the wrapper's.
# Standard input: the line `go`, then the secret for the wrapper. Without `go` nothing happens.
IFS= read -r word || exit 0
[ "$word" = go ] || exit 0
set -eu
umask 022
folder=$1 cgroup=$2 shared=$3 stage=$4 uid=$5 enter=$6
shift 6
: >"$folder/started"
ulimit -c 0
if [ -n "$cgroup" ]; then
    echo "$$" >"$cgroup/cgroup.procs"
fi
cd "$folder/runner"
if [ -z "$uid" ]; then
    exec /bin/sh "$folder/wrapper.sh" "$@"
fi
job_path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec unshare --mount --ipc --propagation slave \
    /bin/sh -c "$enter" runner-manager "$folder" "$shared" "$stage" "$uid" "$job_path" "$@"
