#!/bin/sh
# Stops what up.sh started.
set -eu
exec "$(dirname "$0")/../ec2/down.sh"
