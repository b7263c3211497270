#!/bin/bash
# Runs the runner program as the runner's user, in its folder, and says how it ended.
# Standard input: one line, the credential.
set -u
RM_BASE=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=settings.sh
. "$RM_BASE/settings.sh"
# shellcheck source=registration.sh
. "$RM_BASE/registration.sh"
# shellcheck source=exchange.sh
. "$RM_BASE/exchange.sh"

# The runner's own scripts turn several fatal errors into 0, and an ephemeral runner never ends
# well without a job: without the pre-job file the end is abnormal whatever the code.
finish() {
    if [ "$1" -eq 0 ] && [ -e "$RM_EXCHANGE/pre-job-metrics.json" ]; then
        post_job '"status":"normal"'
    else
        post_job "\"status\":\"abnormal\",\"status_info\":{\"code\":$1}"
    fi
    exit "$1"
}

# The credential lives in the subshells alone: afterwards no process of the runner's user holds
# the registration token any more.
if [ "$RM_MODE" = token ]; then
    set -- --unattended --ephemeral --name "$RM_NAME" --labels "$RM_LABELS" --url "$RM_URL"
    if [ -n "$RM_GROUP" ]; then
        set -- "$@" --runnergroup "$RM_GROUP"
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
