#!/bin/sh
# Starts the peer of `ec2`, for pools that look into instances through Systems Manager.
set -eu
: "${PEER_STATE:?names the folder of the state of this peer}"
here=$(cd "$(dirname "$0")" && pwd)
sh "$here/../ec2/up.sh"
[ -z "${PEER_INSTALL_ONLY:-}" ] || exit 0
echo "EC2_PEER_GUEST=ssm" >>"$PEER_STATE/env"
