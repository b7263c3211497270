# shellcheck shell=bash
# Debian's packages, as root, without starting a daemon. Sourced by up.sh.
# nova-compute, cinder-volume and their like only add init scripts to these.
PACKAGES=(keystone glance-api python3-placement placement-common nova-common neutron-common
    cinder-common qemu-utils
    python3-openstackclient python3-pymysql python3-memcache python3-sqlalchemy-ext
    rabbitmq-server mariadb-server-core mariadb-client-core memcached
    uwsgi-core uwsgi-plugin-python3 curl procps openssh-server iproute2 python3-yaml)

install_packages() {
    local missing=() package archive try apt
    for package in "${PACKAGES[@]}"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} -eq 0 ]; then return 0; fi
    say "installs ${missing[*]}"
    local policy=''
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        policy=ours
    fi
    # An archive of its own: some images empty the shared one after every run of apt, also while
    # another run is unpacking from it.
    archive=$(mktemp -d)
    mkdir -p "$archive/partial"
    chmod -R 755 "$archive"
    apt=(apt-get -y -q -o DPkg::Lock::Timeout=900 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3
        -o Dir::Cache::archives="$archive" -o Dpkg::Options::=--force-unsafe-io
        -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef
        -o 'Dpkg::Options::=--path-exclude=/usr/share/doc/*'
        -o 'Dpkg::Options::=--path-exclude=/usr/share/man/*')
    local installed=''
    for try in 1 2 3; do
        if { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${PACKAGES[@]}"; } \
            >>"$STATE/log/apt.log" 2>&1; then
            installed=yes
            break
        fi
        say "apt-get failed, try $try"
        dpkg --configure -a >>"$STATE/log/apt.log" 2>&1 || true
        "${apt[@]}" -f install >>"$STATE/log/apt.log" 2>&1 || true
    done
    rm -rf "$archive"
    if [ -n "$policy" ]; then rm -f /usr/sbin/policy-rc.d; fi
    if [ -z "$installed" ]; then
        tail -n 40 "$STATE/log/apt.log"
        die 'the packages cannot be installed'
    fi
}
