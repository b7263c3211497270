#!/bin/sh
# Registers this runner, or removes it: `config.sh remove --token TOKEN`.
dir=$(cd -P -- "$(dirname -- "$0")" && pwd) || exit 1
case ${1:-} in
remove)
    shift
    exec "$dir/bin/Runner.Listener" remove "$@"
    ;;
*) exec "$dir/bin/Runner.Listener" configure "$@" ;;
esac
