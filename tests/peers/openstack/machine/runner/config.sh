#!/bin/sh
# Keeps what it was called with.
printf '%s\0' "$@" >/outside/received
