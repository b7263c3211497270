#!/bin/sh
# Runs the runner program as the runner's user and says how it ended.
# Arguments: `jit` or `token`, the metrics-exchange folder; for `token` also the URL, the name,
# the labels and the runner group or "". Standard input: one line, the secret.
set -u
mode=$1 exchange=$2
shift 2

now() {
    at=$(date +%s.%3N)
    case $at in
    *[!0-9.]*) date +%s ;;
    *) echo "$at" ;;
    esac
}

# A reader sees a file whole or not at all.
put() {
    printf '%s\n' "$2" >"$exchange/.$1.new" && mv -f "$exchange/.$1.new" "$exchange/$1"
}

# The runner's own scripts turn several fatal errors into 0, and an ephemeral runner never ends
# well without a job: without the pre-job file the end is abnormal whatever the code.
finish() {
    if [ "$1" -eq 0 ] && [ -e "$exchange/pre-job-metrics.json" ]; then
        post='"status":"normal"'
    else
        post="\"status\":\"abnormal\",\"status_info\":{\"code\":$1}"
    fi
    if [ ! -e "$exchange/post-job-metrics.json" ]; then
        put post-job-metrics.json "{\"timestamp\":$(now),$post}"
    fi
    put exit-code "$1"
    exit "$1"
}

# The secret lives in the subshells alone: afterwards no process of the runner's user holds the
# registration token any more.
if [ "$mode" = token ]; then
    url=$1 name=$2 labels=$3 group=$4
    set -- --unattended --ephemeral --name "$name" --labels "$labels" --url "$url"
    if [ -n "$group" ]; then
        set -- "$@" --runnergroup "$group"
    fi
    (
        IFS= read -r secret || exit 64
        export ACTIONS_RUNNER_INPUT_TOKEN="$secret"
        unset secret
        exec ./config.sh "$@" </dev/null
    ) || finish $?
    exec </dev/null
    put runner-installed.timestamp "$(now)"
    ./run.sh
    finish $?
fi

put runner-installed.timestamp "$(now)"
(
    IFS= read -r secret || exit 64
    export ACTIONS_RUNNER_INPUT_JITCONFIG="$secret"
    unset secret
    exec ./run.sh </dev/null
)
finish $?
