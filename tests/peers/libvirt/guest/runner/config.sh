#!/bin/sh
printf '%s\0' "$@" >"$HOME/received"
