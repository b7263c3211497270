#!/bin/bash
# Unpacks libvirt's headers and library, and what else the host lacks of what they need, and installs
# nothing. Needs a Debian host, and no root.
#
# usage: headers.sh CACHE
# CACHE   an absolute folder that all peers share, within cargo's target folder
# Prints the folder. Below it: `lib`, the libraries; `pkgconfig`, what pkg-config reads; and
# `bin/pkg-config`. The libraries are few, since what the host has is left out.
set -euo pipefail
umask 022
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=apt.sh
. "$here/apt.sh"
cache=$1
packages=(libvirt-dev pkg-config)
# What the host lacks is another question on another host.
digest=$( (cat "$here/headers.sh"; dpkg-query -W) | sha256sum | cut -c 1-16)
folder=$cache/headers/headers-$digest

mkdir -p "$cache/headers"
exec 9>"$cache/headers/lock"
flock -w 300 9 || { echo "another process has been unpacking $folder for long" >&2; exit 1; }

unpack() {
    local stage=$folder.new missing package library libs
    rm -rf "$stage"
    mkdir "$stage" "$stage/debs" "$stage/bin" "$stage/pkgconfig"
    prepare_apt "$cache"
    apt-get -c "$cache/apt/apt.conf" --simulate --no-install-recommends install "${packages[@]}" >"$stage/plan"
    mapfile -t missing < <(sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/\1=\2/p' "$stage/plan")
    if [ ${#missing[@]} -gt 0 ]; then
        (cd "$stage/debs" && own_apt_get "$cache" download "${missing[@]}")
        for package in "$stage/debs"/*.deb; do
            dpkg-deb --extract "$package" "$stage"
        done
    fi
    rm -r "$stage/debs"
    # Some packages still have their library in /lib.
    shopt -s nullglob
    libs=$(printf "%s\n" "$stage"/usr/lib/*/pkgconfig "$stage/usr/lib/none/pkgconfig" | head -n 1)
    libs=${libs%/pkgconfig}
    [ ! -d "$stage/lib/${libs##*/}" ] || cp -a "$stage/lib/${libs##*/}/." "$libs"
    rm -rf "${stage:?}/lib"
    ln -s "${libs#"$stage/"}" "$stage/lib"
    # The names for the linker lead to libraries that the host may have already.
    for library in "$libs"/*.so; do
        [ -e "$library" ] || ln -sf "/usr/lib/${libs##*/}/$(readlink "$library")" "$library"
    done
    for package in "$libs"/pkgconfig/libvirt*.pc; do
        sed "s|^\([a-z]*\)=/usr|\1=$folder/usr|" "$package" >"$stage/pkgconfig/${package##*/}"
    done
    if [ -x "$stage/usr/bin/pkgconf" ]; then
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$folder/lib" "$folder/usr/bin/pkgconf" >"$stage/bin/pkg-config"
        chmod 755 "$stage/bin/pkg-config"
    else
        ln -s "$(command -v pkg-config)" "$stage/bin/pkg-config"
    fi
    rm -rf "$folder"
    mv "$stage" "$folder"
}

[ -d "$folder" ] || unpack
for other in "$cache/headers"/headers-*; do
    [ "$other" = "$folder" ] || rm -rf "$other"
done
echo "$folder"
