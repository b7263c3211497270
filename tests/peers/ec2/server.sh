# Processes that were started here, by number and start time, so that no other process is taken
# for one of them.
started() {
    # The 22nd field, after the name, which may hold anything.
    sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}
remember() {
    echo "$1 $(started "$1")" >"$PEER_STATE/pid"
}
# Whether the process that a file tells of runs; sets $pid.
runs() {
    [ -f "$1" ] || return 1
    read -r pid start <"$1"
    [ -n "$start" ] && [ "$(started "$pid")" = "$start" ]
}
is_running() {
    runs "$PEER_STATE/pid"
}
# Ends the machines of test programs that did not come to their own end.
stop_machines() {
    for file in "$PEER_STATE"/machines/run-*/machines/*/pid; do
        if runs "$file"; then kill -KILL "-$pid"; fi
    done
    rm -rf "$PEER_STATE/machines" || { sleep 1; rm -rf "$PEER_STATE/machines"; }
}
