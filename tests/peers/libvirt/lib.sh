# shellcheck shell=bash
# The parts of up.sh and down.sh. Sourced, with `set -euo pipefail`. up.sh, down.sh and restart.sh run
# on the host first, and then again inside the peer's root.
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=../chroot/enter.sh
. "$here/../chroot/enter.sh"

# Two hosts, each with its own daemons.
hosts='a b'
cache=$PEER_STATE/cache

fail() {
    echo "peer libvirt: $1" >&2
    exit 1
}

# Waits until a command succeeds, for so many tenths of a second.
wait_for() {
    local tenths=$1
    shift
    until "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}

digest() {
    sha256sum | cut -c 1-16
}

# On the host: the stand-in runner.
build_runner() {
    if [ -z "${PEER_RUNNER:-}" ]; then
        (cd "$checkout" && cargo build --quiet --locked --package runner-manager-github-sim --bin github-sim >&2)
        export PEER_RUNNER=${CARGO_TARGET_DIR:-$checkout/target}/debug/github-sim
    fi
}

kernel_key() {
    cat "$here/lib.sh" "$here/guest/initramfs.sh" | digest
}

# On the host: downloads the kernel's package, unless what is made of it is there.
fetch_kernel() {
    local package
    if [ "$(cat "$cache/initrd.key" 2>/dev/null)" = "$(kernel_key)" ] || [ -e "$cache/kernel.deb" ]; then
        return
    fi
    # shellcheck source=../chroot/apt.sh
    . "$chroot_scripts/apt.sh"
    prepare_apt "$peers_cache"
    package=$(own_apt_cache "$peers_cache" depends linux-image-cloud-amd64 |
        sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    rm -rf "$cache/download"
    mkdir "$cache/download"
    (cd "$cache/download" && own_apt_get "$peers_cache" download "$package")
    mv "$cache/download"/*.deb "$cache/kernel.deb"
    rm -r "$cache/download"
}

# The kernel, unpacked and not installed, and an initial RAM disk with the drivers it needs.
make_kernel() {
    local key=$cache/initrd.key stage release
    if [ ! -e "$cache/kernel.deb" ]; then
        return
    fi
    stage=$(mktemp -d "$cache/kernel.XXXXXX")
    dpkg-deb --extract "$cache/kernel.deb" "$stage/x"
    release=$(basename "$stage"/x/lib/modules/*)
    depmod --basedir "$stage/x" "$release"
    mkdir -p "$stage/ram/bin" "$stage/ram/modules"
    cp /bin/busybox "$stage/ram/bin/"
    install -m 755 "$here/guest/initramfs.sh" "$stage/ram/init"
    for module in virtio_pci virtio_blk virtio_net virtio_console virtio_rng isofs; do
        modprobe --dirname "$stage/x" --set-version "$release" --show-depends "$module"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
        while read -r module; do
            cp "$module" "$stage/ram/modules/"
            basename "$module" >>"$stage/ram/modules/order"
        done
    (cd "$stage/ram" && find . | cpio --create --format=newc --quiet | gzip -1) >"$cache/initrd.new"
    mv "$stage/x/boot/vmlinuz-$release" "$cache/vmlinuz"
    mv "$cache/initrd.new" "$cache/initrd"
    rm -rf "$stage"
    kernel_key >"$key"
    rm "$cache/kernel.deb"
}

# The image: the shared root file system, with what stands in for cloud-init where a full boot
# would take minutes, and with the runner of the conformance suite.
make_image() {
    local tar=$PEER_ROOTFS key=$cache/image.key want stage
    want=$( (echo "$tar"; cat "$here/lib.sh"; find "$here/guest" -type f -exec cat {} +) | digest)
    if [ "$(cat "$key" 2>/dev/null)" = "$want" ]; then
        return
    fi
    stage=$(mktemp -d "$cache/image.XXXXXX")
    tar -xf "$tar" -C "$stage"
    install -m 755 "$here/guest/init.sh" "$stage/sbin/guest-init"
    install -D -m 755 -t "$stage/usr/local/lib/guest" "$here"/guest/*.py
    install -m 755 "$here/guest/cloud-init.sh" "$stage/usr/local/bin/cloud-init"
    install -d "$stage/opt/suite-runner/bin"
    install -m 755 "$here"/guest/runner/*.sh "$stage/opt/suite-runner/"
    install -m 755 "$here"/guest/runner/Runner.* "$stage/opt/suite-runner/bin/"
    chroot "$stage" useradd --create-home --shell /bin/bash ubuntu
    rm -f "$cache/image.raw"
    truncate --size 1G "$cache/image.raw"
    mke2fs -q -F -t ext4 -O ^has_journal -L root -d "$stage" "$cache/image.raw"
    qemu-img convert -O qcow2 "$cache/image.raw" "$cache/image.new"
    mv "$cache/image.new" "$cache/image.qcow2"
    rm -rf "$stage" "$cache/image.raw"
    echo "$want" >"$key"
}

# Whether the process that a pid file names is still the one that was started: pid and start time.
is_running() {
    local pid start
    [ -e "$1" ] && read -r pid start <"$1" || return 1
    [ "$(start_time "$pid")" = "$start" ]
}

remember() {
    local pid
    pid=$(cat "$1")
    echo "$pid $(start_time "$pid")" >"$2"
}

# A host: virtlogd and libvirtd that see folders of their own in the places they are built for, so
# that neither the machine's daemons nor another host's meet them. The machine's KVM, if any, is
# hidden: the guests are the same everywhere.
start_host() {
    local dir=$PEER_STATE/$1
    if is_running "$dir/libvirtd.is" && virsh_on "$1" uri >/dev/null 2>&1 &&
        cmp --silent "$cache/image.key" "$dir/image.key"; then
        return
    fi
    stop_host "$1"
    mkdir -p "$dir"/{etc,lib/images,run,log,cache}
    cp "$here"/etc/* "$dir/etc/"
    mkdir -p "$dir"/etc/storage
    rm -f "$dir/lib/images/"*
    cp --reflink=auto "$cache/image.qcow2" "$dir/lib/images/image.qcow2"
    cp "$cache/image.key" "$dir/image.key"
    echo "host_uuid = \"$(cat /proc/sys/kernel/random/uuid)\"" >>"$dir/etc/libvirtd.conf"
    touch "$dir/no-kvm"
    setsid unshare --mount --propagation private "$here/host.sh" "$dir" \
        </dev/null >"$dir/log/start.log" 2>&1 9>&- || {
        cat "$dir/log/start.log" >&2
        fail "host $1 did not start"
    }
    remember "$dir/run/virtlogd.pid" "$dir/virtlogd.is"
    remember "$dir/run/libvirtd.pid" "$dir/libvirtd.is"
    if ! wait_for 600 virsh_on "$1" uri; then
        tail -n 40 "$dir"/log/*.log >&2
        fail "host $1 gives no answer"
    fi
    virsh_on "$1" pool-create-as runners dir --target /var/lib/libvirt/images >/dev/null
    # The first question about QEMU makes libvirt start it to see what it can do, for seconds.
    virsh_on "$1" domcapabilities --virttype qemu >/dev/null
}

virsh_on() {
    local host=$1
    shift
    timeout 60 virsh --quiet --connect "qemu+unix:///system?socket=$PEER_STATE/$host/run/libvirt-sock" "$@"
}

# Ends the guests of a host, then its daemons; nothing else.
stop_host() {
    local dir=$PEER_STATE/$1 guest daemon pid
    if is_running "$dir/libvirtd.is"; then
        for guest in $(virsh_on "$1" list --uuid 2>/dev/null || true); do
            virsh_on "$1" destroy "$guest" >/dev/null 2>&1 || true
        done
    fi
    for daemon in libvirtd virtlogd; do
        if is_running "$dir/$daemon.is"; then
            read -r pid _ <"$dir/$daemon.is"
            kill "$pid" 2>/dev/null || true
            gone() { ! is_running "$dir/$daemon.is"; }
            wait_for 100 gone || kill -9 "$pid" 2>/dev/null || true
        fi
        rm -f "$dir/$daemon.is"
    done
}
