#!/bin/sh
# Keeps the listener alive. Its exit codes: 2 to 4 ask for a restart; 1 and unknown ones are told
# as 0, as the real runner's scripts do.
dir=$(cd -P -- "$(dirname -- "$0")" && pwd) || exit 1
if [ "$(id -u)" -eq 0 ] && [ -z "${RUNNER_ALLOW_RUNASROOT:-}" ]; then
    echo "the runner does not run as root; set RUNNER_ALLOW_RUNASROOT=1 to let it" >&2
    exit 1
fi
while :; do
    "$dir/bin/Runner.Listener" run "$@"
    code=$?
    case $code in
    2 | 3 | 4)
        echo "the listener ended with $code; starting it again"
        sleep "${RUNNER_SIM_RETRY_SECONDS:-5}"
        ;;
    5 | 7)
        echo "the listener ended with $code; not starting it again"
        exit "$code"
        ;;
    *)
        echo "the listener ended with $code"
        exit 0
        ;;
    esac
done
