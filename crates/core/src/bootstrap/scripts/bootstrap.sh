#!/bin/bash
# Makes this instance the host of one runner: cloud-init runs it as root, once, and it ends with
# the runner. All values come from settings.sh and the files beside it.
# shellcheck disable=SC2317  # Some functions are called by with_environment alone.
set -euo pipefail
umask 022
RM_BASE=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=settings.sh
. "$RM_BASE/settings.sh"
# shellcheck source=exchange.sh
. "$RM_BASE/exchange.sh"
# shellcheck source=services.sh
. "$RM_BASE/services.sh"
watcher=''

fail() {
    echo "runner-manager: $1" >&2
    exit 1
}

# Tells the manager how far this instance is. It looks by itself, too: a call that fails is late
# news and no failure.
report() {
    [ -e "$RM_BASE/callback-token" ] || return 0
    helper report "$RM_MANAGER_URL" "$RM_BASE/callback-token" "$@" || true
}

# The start of the job is seen from here, so that no process of the job's user holds the token.
watch() {
    until [ -e "$RM_EXCHANGE/runner-installed.timestamp" ]; do sleep 0.2; done
    report listening
    until [ -e "$RM_EXCHANGE/pre-job-metrics.json" ]; do sleep 0.2; done
    report job-started
}

# Whatever went wrong before the runner's start is its abnormal end.
ended() {
    local code=$?
    if [ -n "$watcher" ]; then kill "$watcher" 2>/dev/null || true; fi
    rm -f "$RM_BASE/credential" "$RM_BASE/nonce"
    if [ "$code" -ne 0 ] && [ -d "$RM_EXCHANGE" ] && [ ! -e "$RM_BASE/started" ]; then
        post_job "\"status\":\"abnormal\",\"status_info\":{\"code\":$code}"
    fi
    report shutting-down "$code"
    date +%s >"$RM_BASE/finished"
}
trap ended EXIT

# A seed in the root file system may be open to all, and holds what this instance was told.
if [ -d /var/lib/cloud/seed ]; then chmod 700 /var/lib/cloud/seed; fi

# A download and a claim need the pool's proxies, not those of the image.
with_environment() {
    (
        if [ -e "$RM_BASE/secrets.sh" ]; then
            # shellcheck disable=SC1091
            . "$RM_BASE/secrets.sh"
        fi
        # shellcheck source=environment.sh
        . "$RM_BASE/environment.sh"
        "$@"
    )
}

make_user() {
    if ! id "$RM_USER" >/dev/null 2>&1; then
        useradd --create-home --home-dir "$RM_HOME" --shell /bin/bash "$RM_USER"
    fi
    install -d -o "$RM_USER" -g "$(id -g "$RM_USER")" -m 755 "$RM_EXCHANGE"
}

# Whether a runner folder is complete and new enough.
is_usable() {
    local version
    [ -x "$1/run.sh" ] && [ -x "$1/config.sh" ] || return 1
    [ -n "$RM_MINIMUM_VERSION" ] || return 0
    version=$("$1/bin/Runner.Listener" --version) || return 1
    [ "$(printf '%s\n%s\n' "$RM_MINIMUM_VERSION" "$version" | sort -V | head -n 1)" = "$RM_MINIMUM_VERSION" ]
}

# Finds the runner folder of the image, or fetches and unpacks one.
find_runner() {
    if is_usable "$RM_RUNNER_PATH"; then
        return
    fi
    if [ -z "$RM_DOWNLOAD_URL" ]; then
        fail "the image holds no runner${RM_MINIMUM_VERSION:+ of version $RM_MINIMUM_VERSION or later} in $RM_RUNNER_PATH; build it anew, or configure a download"
    fi
    local cache=/var/cache/runner-manager/$RM_DOWNLOAD_SHA256.tar.gz
    mkdir -p /var/cache/runner-manager
    helper fetch "$RM_DOWNLOAD_URL" "$cache" "$RM_DOWNLOAD_SHA256" ||
        fail 'the runner program cannot be downloaded'
    rm -rf "$RM_RUNNER_PATH"
    mkdir -p "$RM_RUNNER_PATH"
    tar -xzf "$cache" -C "$RM_RUNNER_PATH" --no-same-owner
    is_usable "$RM_RUNNER_PATH" ||
        fail "the downloaded runner program is older than $RM_MINIMUM_VERSION, or not one"
}

# Runs start.sh as the runner's user, with the credential as its input and nowhere else.
run_runner() {
    cd "$RM_RUNNER_PATH" || exit
    exec "$@" <&3 3<&-
}

[ "$(uname -m)" = "$RM_MACHINE" ] ||
    fail "this machine is $(uname -m), and the pool is for $RM_MACHINE; give it another image or flavor"
make_user
if [ -n "$RM_MANAGER_URL" ]; then
    with_environment helper claim "$RM_MANAGER_URL" "$RM_BASE" ||
        fail 'the credential cannot be claimed from the manager'
fi
report booted
configure_apt
hold_snaps
join_groups
configure_docker
report installing
with_environment find_runner
chown -R "$RM_USER:" "$RM_RUNNER_PATH"
if [ -e "$RM_BASE/secrets.env" ]; then
    cat "$RM_BASE/secrets.env" "$RM_BASE/dotenv" >"$RM_BASE/dotenv.all"
else
    cp "$RM_BASE/dotenv" "$RM_BASE/dotenv.all"
fi
install -o "$RM_USER" -m 600 "$RM_BASE/dotenv.all" "$RM_RUNNER_PATH/.env"
rm "$RM_BASE/dotenv.all"
if [ -e "$RM_BASE/policy-token" ]; then
    chown "$RM_USER" "$RM_BASE/policy-token"
fi
redirect_to_proxy

date +%s >"$RM_BASE/started"
if [ -e "$RM_BASE/callback-token" ]; then
    watch &
    watcher=$!
fi
exec 3<"$RM_BASE/credential"
rm -f "$RM_BASE/credential"
set -- "$(command -v setpriv)" --reuid "$RM_USER" --regid "$(id -g "$RM_USER")" --init-groups \
    /bin/bash "$RM_BASE/start.sh"
code=0
with_environment run_runner "$@" || code=$?
exec 3<&-
if [ -n "$watcher" ]; then
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    watcher=''
fi
refused=''
if grep -qs repo-policy-check-failure "$RM_EXCHANGE/post-job-metrics.json"; then
    refused=yes
    # Time for the job's log to reach GitHub, before the manager hears of the end.
    sleep 10
fi
if [ -e "$RM_EXCHANGE/pre-job-metrics.json" ]; then report job-completed "$code"; fi
if [ -n "$refused" ]; then poweroff; fi
exit "$code"
