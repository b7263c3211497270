#!/bin/bash
# Builds a root file system of Debian for a peer, and installs nothing into the host. Needs root and
# a Debian host.
#
# usage: build.sh CACHE NAME
# CACHE   an absolute folder that all peers share; downloads are kept in CACHE/apt
# NAME    the file ../NAME/packages lists the packages, one a line; `suite NAME` adds a suite
# Prints the path, CACHE/NAME/rootfs-DIGEST. The digest is that of the packages, this script, the
# release and the architecture: what was built before from the same is taken from there.
set -euo pipefail
umask 022
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=apt.sh
. "$here/apt.sh"
cache=$1 name=$2
list=$here/../$name/packages
words() { sed -e 's/#.*//' -e "s/^suite .*//" "$list" | xargs; }
digest=$( (cat "$here/build.sh" "$list"; echo "$release"; dpkg --print-architecture) | sha256sum | cut -c 1-16)
root=$cache/$name/rootfs-$digest

mkdir -p "$cache/$name"
exec 9>"$cache/$name/rootfs.lock"
flock -w 1200 9 || { echo "another process has been building $root for long" >&2; exit 1; }

# Removes what earlier builds made, unless something runs in it: that holds a lock on the folder.
remove_others() {
    local other
    for other in "$cache/$name"/rootfs-*/; do
        other=${other%/}
        if [ "$other" != "$root" ] && [ -d "$other" ]; then
            flock --nonblock "$other" rm -rf --one-file-system "$other" || true
        fi
    done
}

build() {
    local stage=$root.new log=$cache/$name/rootfs.log suites start=$SECONDS
    rm -rf --one-file-system "$stage"
    prepare_apt "$cache"
    provide_mmdebstrap "$cache"
    suites=$(sed -n 's/^suite //p' "$list")
    # shellcheck disable=SC2086  # Each suite is a word.
    write_sources "$cache/apt" "$cache/$name/rootfs.sources" $suites
    # Mounts that are made meanwhile end with the namespace. Archives are linked in and out: two
    # builds share them, and neither waits for the other's apt. Python's modules are compiled in one
    # go at the end: a run of py3compile for each of 500 packages takes most of the time.
    unshare --mount --propagation private mmdebstrap --mode=root --variant=minbase --format=directory \
        --include="$(words | tr ' ' ,)" \
        --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/bin/py3compile' \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
        --skip=essential/unlink --skip=cleanup/apt/cache \
        --setup-hook="mkdir -p \$1/var/cache/apt/archives/partial && find $cache/apt/archives -maxdepth 1 -name '*.deb' -exec cp --link -t \$1/var/cache/apt/archives {} +" \
        --customize-hook="find \$1/var/cache/apt/archives -maxdepth 1 -name '*.deb' -exec cp --link --no-clobber -t $cache/apt/archives {} +; rm -f \$1/var/cache/apt/archives/*.deb" \
        --customize-hook='[ ! -x "$1/usr/bin/python3" ] || chroot "$1" python3 -m compileall -q -j 0 -x "/tests?/" /usr/lib/python3/dist-packages || true' \
        "$release" "$stage" "$cache/$name/rootfs.sources" >"$log" 2>&1 9>&- || {
        tail -n 30 "$log" >&2
        echo "the root file system of $name was not built; the whole log is $log" >&2
        exit 1
    }
    mv "$stage" "$root"
    echo "the root file system of $name was built in $((SECONDS - start)) s" >&2
}

[ -d "$root" ] || build
remove_others
echo "$root"
