#!/bin/sh
# The runner runs this before its job (ACTIONS_RUNNER_HOOK_JOB_STARTED). It never fails the job.
exchange=${RUNNER_MANAGER_EXCHANGE:-}
[ -d "$exchange" ] || exit 0
text() {
    printf '%s' "$1" | tr -d '\000-\037\177' | sed 's/[\"]/\\&/g'
}
at=$(date +%s.%3N)
case $at in
*[!0-9.]*) at=$(date +%s) ;;
esac
new=$exchange/.pre-job-metrics.json.new
printf '{"timestamp":%s,"workflow":"%s","workflow_run_id":"%s","repository":"%s","event":"%s"}\n' \
    "$at" "$(text "${GITHUB_WORKFLOW:-}")" "$(text "${GITHUB_RUN_ID:-}")" \
    "$(text "${GITHUB_REPOSITORY:-}")" "$(text "${GITHUB_EVENT_NAME:-}")" >"$new" &&
    mv -f "$new" "$exchange/pre-job-metrics.json"
exit 0
