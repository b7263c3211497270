# Sets $pids to the processes of the name $1, without those that have ended. Reads /proc by the
# shell alone: no process is started, and no other program is needed.
find_processes() {
    pids=''
    for stat in /proc/[0-9]*/stat; do
        IFS= read -r line 2>/dev/null <"$stat" || continue
        comm=${line#*\(}
        state=${comm##*) }
        case ${comm%)*}:$state in
            "$1":[ZXx]*) ;;
            "$1":*) pids="$pids ${line%% *}" ;;
        esac
    done
}
