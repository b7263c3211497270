#!/bin/bash
# The runner runs this before its job (ACTIONS_RUNNER_HOOK_JOB_STARTED). Its failure fails the
# job.
set -u
RM_BASE=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=settings.sh
. "$RM_BASE/settings.sh"
# shellcheck source=exchange.sh
. "$RM_BASE/exchange.sh"

# Stops the listener that runs this job, and no other one of this machine.
stop_listener() {
    local pid=$PPID name
    while [ "${pid:-0}" -gt 1 ]; do
        read -r name <"/proc/$pid/comm" || return 0
        if [ "$name" = Runner.Listener ]; then
            kill -INT "$pid"
            return 0
        fi
        pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
    done
}

# Metrics never fail the job.
helper pre-job "$RM_EXCHANGE" || true

if [ -n "$RM_POLICY_URL" ]; then
    # 0 stands for no answer at all: what cannot be asked is not allowed.
    code=$(helper policy "$RM_POLICY_URL" "$RM_BASE/policy-token") ||
        code=0
    case $code in
    2[0-9][0-9]) ;;
    *)
        echo "The repository policy does not allow this job (HTTP $code)." >&2
        post_job "\"status\":\"repo-policy-check-failure\",\"status_info\":{\"code\":$code}"
        stop_listener
        exit 1
        ;;
    esac
fi

if [ -e "$RM_BASE/custom-pre-job" ]; then
    exec "$RM_BASE/custom-pre-job"
fi
