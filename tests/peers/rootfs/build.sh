#!/bin/bash
# Builds the root file system that the peers with real guests share: Debian with systemd and
# cloud-init, and the stand-in runner in /opt/actions-runner. Needs root and Debian.
#
# usage: [MACHINE=arm64] build.sh CACHE [PROGRAM]
# CACHE     an absolute folder; what was built before from the same parts is taken from there. apt
#           keeps its own beside it
# PROGRAM   the program `github-sim`, which plays the runner; without it only what takes time is
#           built, for a later call
# MACHINE   Debian's word for the machine; another than this one's must be translated already
# Prints the path of a tar archive, named by its content.
set -euo pipefail
umask 022
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=../chroot/apt.sh
. "$here/../chroot/apt.sh"
cache=$1 program=${2:-} machine=${MACHINE:-amd64}
packages=(ca-certificates cloud-init dbus iproute2 procps qemu-guest-agent sudo systemd-sysv udev)

# The folder's lock: two peers may ask at the same time.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -w 900 9

digest() {
    sha256sum | cut -c 1-16
}

# The base changes with this folder and the packages, and about once a month with Debian.
base_key=$( (cat "$here/build.sh" "$here"/overlay/*; echo "$machine" "${packages[@]}"; date +%Y-%m) | digest)
base=$cache/base-$base_key.tar
if [ ! -e "$base" ]; then
    peers=$(dirname "$cache")
    prepare_apt "$peers"
    provide_mmdebstrap "$peers"
    write_sources "$peers/apt" "$cache/base.sources"
    # What no test asks for goes: LXD 5.0 on Linux 6.18 changes the owner of every file of a new
    # container, and takes a second for it.
    include=$(IFS=,; echo "${packages[*]}")
    unshare --mount --propagation private mmdebstrap --mode=root --format=tar --variant=minbase --include="$include" \
        --architectures="$machine" --skip=check/qemu \
        --dpkgopt='force-unsafe-io' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --customize-hook="cp $here/overlay/datasources.cfg \$1/etc/cloud/cloud.cfg.d/95-peers.cfg" \
        --customize-hook="cp $here/overlay/wired.network \$1/etc/systemd/network/80-wired.network" \
        --customize-hook='install -d -m 700 "$1/var/lib/cloud/seed/nocloud-net"' \
        --customize-hook='chroot "$1" systemctl --quiet enable systemd-networkd' \
        --customize-hook='chroot "$1" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service' \
        --customize-hook='cd "$1/usr/share" && rm -rf i18n perl lintian bash-completion zsh zoneinfo/posix zoneinfo/right' \
        --customize-hook='rm -rf "$1"/usr/lib/*/perl "$1"/usr/lib/*/gconv' \
        --customize-hook='rm -f "$1/etc/hostname" "$1/etc/machine-id"; : >"$1/etc/machine-id"' \
        "$release" "$base.new" "$cache/base.sources" >&2
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
    chmod 755 "$stage" "$stage/opt" "$runner"/*.sh "$runner"/bin/*
    if [ "$machine" != amd64 ]; then
        # The runner stays this machine's, and needs its own libraries.
        ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
            # Links like /lib lead on in the root file system; /lib64 is its own folder there.
            case $library in /lib64/*) place=$library ;; *) place=/usr${library#/usr} ;; esac
            install -D -m 755 "$library" "$stage$place"
        done
    fi
    cp "$base" "$whole.new"
    tar --append --owner=root --group=root --numeric-owner -C "$stage" -f "$whole.new" .
    # Those of earlier builds are of no use any more.
    rm -f "$cache/rootfs-$base_key-"*.tar
    mv "$whole.new" "$whole"
fi
echo "$whole"
