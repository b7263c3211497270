# Stops the runner, unless it has a job and $1 is `idle`. Says `stopped`, `busy` or
# `not-running`. docs/bootstrap.md holds the argument why no job is lost.
mode=$1
listeners=''

# Left midway, the listener would stand still for good. All waits below are short.
trap '' HUP PIPE
trap 'thaw; exit 75' INT TERM

thaw() {
    # shellcheck disable=SC2086
    if [ "$listeners" ]; then kill -CONT $listeners 2>/dev/null; fi
}

give_up() {
    thaw
    echo "$2" >&2
    exit "$1"
}

say() {
    echo "$1"
    exit 0
}

# Whether all threads of a process stand still. One that is starting a child does not: it waits
# for the child's own program.
is_still() {
    for thread in "/proc/$1"/task/[0-9]*/stat; do
        IFS= read -r line 2>/dev/null <"$thread" || continue
        case ${line##*) } in
            [TtZXx]*) ;;
            *) return 1 ;;
        esac
    done
}

freeze() {
    for pid in $listeners; do
        if ! kill -STOP "$pid" 2>/dev/null && [ -e "/proc/$pid" ]; then
            give_up 77 "process $pid may not be stopped; log in as root or as the runner's user"
        fi
    done
    for pid in $listeners; do
        tries=0
        until is_still "$pid"; do
            tries=$((tries + 1))
            if [ "$tries" -gt 50 ]; then give_up 75 "process $pid does not stand still"; fi
            sleep 0.1 2>/dev/null || sleep 1
        done
    done
}

# Sets $work to all workers, and to all children of the listeners: one of them may be a worker
# that has not taken its name yet.
find_work() {
    find_processes Runner.Worker
    work=$pids
    for stat in /proc/[0-9]*/stat; do
        IFS= read -r line 2>/dev/null <"$stat" || continue
        state=${line##*) }
        parent=${state#* }
        case " $listeners " in
            *" ${parent%% *} "*)
                case $state in
                    [ZXx]*) ;;
                    *) work="$work ${line%% *}" ;;
                esac
                ;;
        esac
    done
}

# A listener that has taken a job writes to its log until the worker is there, and flushes each
# line; an idle one writes once a minute or so.
is_quiet() {
    now=$(date +%s)
    for pid in $listeners; do
        program=$(readlink "/proc/$pid/exe") || continue
        for log in "${program%/bin/*}"/_diag/Runner_*.log; do
            changed=$(stat -c %Y "$log" 2>/dev/null) || continue
            if [ $((now - changed)) -lt 3 ]; then return 1; fi
        done
    done
}

# Ends what stands still, and nothing that came since: that gets a round of its own.
end() {
    # shellcheck disable=SC2086
    kill -KILL $listeners $work 2>/dev/null
    tries=0
    while :; do
        find_processes Runner.Listener
        left=$pids
        find_processes Runner.Worker
        left="$left $pids "
        if [ -z "${left#  }" ]; then say stopped; fi
        ended=yes
        for pid in $listeners $work; do
            case $left in *" $pid "*) ended='' ;; esac
        done
        if [ "$ended" ]; then return; fi
        tries=$((tries + 1))
        if [ "$tries" -gt 50 ]; then give_up 75 "these processes do not end: $left"; fi
        sleep 0.1 2>/dev/null || sleep 1
    done
}

rounds=0
while [ "$rounds" -lt 8 ]; do
    rounds=$((rounds + 1))
    find_processes Runner.Listener
    listeners=$pids
    freeze
    find_work
    if [ -z "$listeners$work" ]; then say not-running; fi
    if [ "$mode" = any ]; then
        end
        continue
    fi
    if [ "$work" ]; then
        thaw
        say busy
    fi
    if is_quiet; then
        end
        continue
    fi
    thaw
    sleep 1
done
if [ "$mode" = any ]; then give_up 75 'new runner processes appear again and again'; fi
say busy
