#!/bin/bash
# Unpacks one package of Debian, without what it depends on, and installs nothing. Needs a Debian
# host, and no root.
#
# usage: unpack.sh CACHE PACKAGE
# Prints the folder, which is kept in CACHE.
set -euo pipefail
umask 022
# shellcheck source=apt.sh
. "$(dirname -- "$(readlink -f -- "$0")")/apt.sh"
prepare_apt "$1"
unpack_package "$1" "$2"
