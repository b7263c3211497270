# shellcheck shell=bash
# Sets up the services around a runner, as root. Sourced by bootstrap.sh, after settings.sh.
RM_BASE=${RM_BASE:?}

# The proxies that cloud-init could not know, as they came with the claim.
configure_apt() {
    if [ -e "$RM_BASE/apt.conf" ]; then
        install -m 644 "$RM_BASE/apt.conf" /etc/apt/apt.conf.d/95-runner-manager
    fi
    if [ "$RM_UPDATE" = true ]; then
        apt-get update || echo 'the package lists cannot be refreshed; going on without' >&2
    fi
}

# Refreshes in the middle of a job restart daemons under it.
hold_snaps() {
    if command -v snap >/dev/null; then
        snap refresh --hold=24h || snap set system "refresh.hold=$(date -d '+1 day' +%FT%TZ)" || true
    fi
}

# What the image grants to members of these groups, jobs may use.
join_groups() {
    local group
    for group in docker lxd microk8s kvm; do
        if getent group "$group" >/dev/null; then
            usermod -a -G "$group" "$RM_USER"
        fi
    done
}

# Adds the registry mirror and the proxies to what the image configures already.
configure_docker() {
    local changed=''
    if [ -e "$RM_BASE/docker-daemon.json" ]; then
        helper merge-json /etc/docker/daemon.json "$RM_BASE/docker-daemon.json"
        changed=yes
    fi
    if [ -e "$RM_BASE/docker-proxy.conf" ]; then
        install -D -m 600 "$RM_BASE/docker-proxy.conf" \
            /etc/systemd/system/docker.service.d/runner-manager-proxy.conf
        changed=yes
    fi
    if [ -e "$RM_BASE/docker-client.json" ]; then
        helper merge-json "$RM_HOME/.docker/config.json" "$RM_BASE/docker-client.json"
        chown -R "$RM_USER:" "$RM_HOME/.docker"
    fi
    if [ -n "$changed" ] && command -v dockerd >/dev/null; then
        systemctl daemon-reload
        systemctl restart docker
    fi
}

# Sends the outgoing connections of this instance, and of its containers, through the proxy.
redirect_to_proxy() {
    [ -n "$RM_APROXY" ] || return 0
    if ! command -v nft >/dev/null || ! command -v snap >/dev/null; then
        echo 'transparent proxying needs nftables and snapd; add them to the image' >&2
        return 1
    fi
    if ! snap list aproxy >/dev/null 2>&1; then
        snap set system "proxy.http=http://$RM_APROXY" "proxy.https=http://$RM_APROXY"
        snap install aproxy --edge
    fi
    snap set aproxy "proxy=$RM_APROXY" "listen=:$RM_APROXY_LISTEN"
    nft -f "$RM_BASE/aproxy.nft"
}
