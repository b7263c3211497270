#!/bin/sh
# What cloud-init would say, where seed.py stands in for it.
if [ "$1" = status ]; then
    for file in /run/guest-cloud-init.forced /run/guest-cloud-init; do
        [ ! -e "$file" ] || exec cat "$file"
    done
fi
exec /usr/bin/cloud-init "$@"
