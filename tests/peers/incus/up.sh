#!/bin/bash
# Starts Incus from Debian's packages, with its own data folder and no init system.
set -euo pipefail
KIND=incus CLI=incus DAEMON=/usr/libexec/incus/incusd TRUST=(add-certificate)
# shellcheck source=../lxd/common.sh
. "$(dirname -- "$(readlink -f -- "$0")")/../lxd/common.sh"

# Debian 12 has Incus in its backports, which are asked for this alone: apt's own sources stay.
install_incus() {
    local lists=$PEER_STATE/lists sources=$PEER_STATE/sources
    mkdir -p "$lists/partial" "$sources"
    cp /etc/apt/sources.list.d/debian.sources "$sources"
    sed -e 's/^Suites:.*security.*/Enabled: no/' -e 's/^Suites:.*/Suites: bookworm-backports/' \
        /etc/apt/sources.list.d/debian.sources >"$sources/backports.sources"
    local own=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$sources"
        -o Dir::State::lists="$lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    apt-get "${own[@]}" -qq update || fail 'cannot read the package lists'
    install_packages "${own[@]}" install incus-base incus-client btrfs-progs openssl
}

[ -x "$DAEMON" ] && command -v incus >/dev/null && command -v mkfs.btrfs >/dev/null || install_incus
end_if_only_installed

# The packages of LXD and of Incus both give root a range of users, and two cannot be had at once.
# `peer_down` puts them back.
for file in subuid subgid; do
    if [ "$(grep -c '^root:' /etc/$file)" -gt 1 ]; then
        cp -p /etc/$file "$PEER_STATE/$file"
        awk '!/^root:/ || !seen++' "$PEER_STATE/$file" >/etc/$file
    fi
done
peer_up
