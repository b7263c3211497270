#!/bin/bash
# Builds the root file system that the peers with real guests share: Debian with systemd and
# cloud-init, and the stand-in runner in /opt/actions-runner. Needs root and Debian.
#
# usage: build.sh CACHE [PROGRAM]
# CACHE     an absolute folder; what was built before from the same parts is taken from there
# PROGRAM   the program `github-sim`, which plays the runner; without it only what takes time is
#           built, for a later call
# Prints the path of a tar archive, named by its content.
set -euo pipefail
umask 022
here=$(dirname -- "$(readlink -f -- "$0")")
cache=$1 program=${2:-}
packages=(ca-certificates cloud-init dbus iproute2 procps qemu-guest-agent sudo systemd-sysv udev)

# The folder's lock: two peers may ask at the same time.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -w 900 9

digest() {
    sha256sum | cut -c 1-16
}

# The base changes with this folder and the packages, and about once a month with Debian.
base_key=$( (cat "$here/build.sh" "$here"/overlay/*; echo "${packages[@]}"; date +%Y-%m) | digest)
base=$cache/base-$base_key.tar
if [ ! -e "$base" ]; then
    if ! command -v mmdebstrap >/dev/null; then
        apt-get -o DPkg::Lock::Timeout=900 -qq -y --no-install-recommends install mmdebstrap >&2
    fi
    # What this machine's apt is configured with is what can be reached.
    sources=()
    for list in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        if [ -s "$list" ]; then
            sources+=("$list")
        fi
    done
    include=$(IFS=,; echo "${packages[*]}")
    mmdebstrap --mode=root --format=tar --variant=minbase --include="$include" \
        --dpkgopt='force-unsafe-io' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --customize-hook="cp $here/overlay/datasources.cfg \$1/etc/cloud/cloud.cfg.d/95-peers.cfg" \
        --customize-hook="cp $here/overlay/wired.network \$1/etc/systemd/network/80-wired.network" \
        --customize-hook='install -d -m 700 "$1/var/lib/cloud/seed"' \
        --customize-hook='chroot "$1" systemctl --quiet enable systemd-networkd' \
        --customize-hook='chroot "$1" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service' \
        --customize-hook='rm -f "$1/etc/hostname" "$1/etc/machine-id"; : >"$1/etc/machine-id"' \
        bookworm "$base.new" "${sources[@]}" >&2
    mv "$base.new" "$base"
fi

if [ -z "$program" ]; then
    echo "$base"
    exit
fi

# The runner is the only part that a build of this tree changes. It is stripped: a debug build is
# larger than all the rest.
scripts=$here/../../../crates/github-sim/src/stand_in/scripts
whole=$cache/rootfs-$base_key-$(cat "$program" "$scripts"/* | digest).tar
if [ ! -e "$whole" ]; then
    stage=$(mktemp -d "$cache/stage.XXXXXX")
    trap 'rm -rf "$stage"' EXIT
    runner=$stage/opt/actions-runner
    mkdir -p "$runner/bin"
    strip -o "$runner/bin/Runner.Listener" "$program"
    ln "$runner/bin/Runner.Listener" "$runner/bin/Runner.Worker"
    cp "$scripts"/run.sh "$scripts"/config.sh "$runner"
    chmod 755 "$stage" "$runner"/*.sh "$runner"/bin/*
    cp "$base" "$whole.new"
    tar --append --owner=root --group=root --numeric-owner -C "$stage" -f "$whole.new" ./opt/actions-runner
    # Those of earlier builds are of no use any more.
    rm -f "$cache/rootfs-$base_key-"*.tar
    mv "$whole.new" "$whole"
fi
echo "$whole"
