#!/bin/sh
# Starts the peer of `ec2`, for pools that look into instances through Systems Manager.
set -eu
exec "$(dirname "$0")/../ec2/up.sh" ssm
