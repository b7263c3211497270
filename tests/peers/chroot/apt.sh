# shellcheck shell=bash
# apt with sources, package lists and archives of its own below CACHE/apt: it reads how the host's
# apt is configured, and changes nothing of the host's. Sourced by scripts with `set -euo pipefail`.

# The Debian release that all peers are made of.
release=bookworm

# [SUITE…]: prints the host's sources of Debian's main archive, for the release, with these suites
# added. The host may be a Debian of another release.
debian_sources() {
    local host suites
    # shellcheck source=/dev/null
    host=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || {
        echo 'peers are built from packages of Debian, and this host is none' >&2
        return 1
    }
    suites=$*
    find /etc/apt/sources.list /etc/apt/sources.list.d -name '*.list' -exec cat {} + 2>/dev/null |
        awk '/^deb[ \t]/ {
            options = sub(/^deb[ \t]+\[/, "") ? substr($0, 1, index($0, "]") - 1) : ""
            sub(/^deb[ \t]+/, "")
            if (options != "") $0 = substr($0, length(options) + 2)
            print "Types: deb\nURIs: " $1 "\nSuites: " $2 "\nComponents:" substr($0, index($0, $3) - 1)
            if (match(options, /signed-by=[^ ]*/)) print "Signed-By: " substr(options, RSTART + 10, RLENGTH - 10)
            print ""
        }' >"$sources_stage/list"
    find /etc/apt/sources.list.d -name '*.sources' -exec sh -c 'cat "$1"; echo' sh {} \; >>"$sources_stage/list"
    awk -v host="$host" -v release="$release" -v more="$suites" '
        BEGIN { RS = ""; FS = "\n" }
        {
            wanted = ""; main = 0; enabled = 1; text = ""
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^#/) continue
                if ($i ~ /^Enabled:[ \t]*no/) enabled = 0
                if ($i ~ /^Components:/) { main = $i ~ /[ \t]main([ \t]|$)/; continue }
                if ($i ~ /^Types:/) continue
                if ($i !~ /^Suites:/) { text = text $i "\n"; continue }
                count = split($i, words, /[ \t]+/)
                for (word = 2; word <= count; word++) {
                    suite = words[word]
                    if (suite != host && index(suite, host "-") != 1) continue
                    rest = substr(suite, length(host) + 1)
                    if (rest == "" && more != "") wanted = wanted " " more
                    if (rest == "" || rest == "-updates" || rest == "-security") wanted = wanted " " release rest
                }
            }
            if (enabled && main && wanted != "")
                printf "Types: deb\n%sSuites:%s\nComponents: main\n\n", text, wanted
        }' "$sources_stage/list"
}

# FOLDER FILE [SUITE…]: writes the sources to a file; what it needs meanwhile is below the folder.
write_sources() {
    local file=$2 sources_stage
    sources_stage=$(mktemp -d "$1/stage.XXXXXX")
    shift 2
    debian_sources "$@" >"$sources_stage/new" || { rm -r "$sources_stage"; return 1; }
    [ -s "$sources_stage/new" ] || {
        echo "apt of this host has no source of Debian's main archive" >&2
        rm -r "$sources_stage"
        return 1
    }
    mv "$sources_stage/new" "$file"
    rm -r "$sources_stage"
}

# CACHE: prepares the folders, and reads the package lists if those at hand are older than an hour.
# Whoever calls it first locks the others out meanwhile.
prepare_apt() {
    local apt=$1/apt
    mkdir -p "$apt"/{state/lists/partial,cache,archives/partial,sources,log}
    (
        flock -w 300 7 || { echo "another process keeps $apt locked" >&2; exit 1; }
        write_sources "$apt" "$apt/sources/debian.sources"
        # Hooks of the host are for its own lists.
        cat >"$apt/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
Debug::NoLocking "true";
Dir::Cache "$apt/cache";
Dir::Cache::archives "$apt/archives";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$apt/sources";
Dir::Log "$apt/log";
Dir::State "$apt/state";
Dir::State::status "/var/lib/dpkg/status";
CONF
        if [ -z "$(find "$apt/updated" -mmin -60 2>/dev/null)" ]; then
            own_apt_get "$1" update
            touch "$apt/updated"
        fi
    ) 7>"$apt/lock"
}

# CACHE WORD…: apt-get on those lists.
own_apt_get() {
    local apt=$1/apt
    shift
    apt-get -qq -c "$apt/apt.conf" "$@" >&2
}

# CACHE WORD…: apt-cache on those lists.
own_apt_cache() {
    local apt=$1/apt
    shift
    apt-cache -c "$apt/apt.conf" "$@"
}

# CACHE PACKAGE: prints the folder that the package is unpacked to, and was not installed.
unpack_package() {
    local apt=$1/apt package=$2 folder=$1/unpacked/$2
    mkdir -p "$1/unpacked"
    (
        flock -w 300 7
        if [ ! -d "$folder" ]; then
            rm -rf "$folder.new"
            mkdir "$folder.new"
            (cd "$folder.new" && own_apt_get "$1" download "$package")
            dpkg-deb --extract "$folder.new"/*.deb "$folder.new"
            rm "$folder.new"/*.deb
            mv "$folder.new" "$folder"
        fi
    ) 7>"$apt/lock"
    echo "$folder"
}

# CACHE: puts mmdebstrap on the path: the host's, or one that is unpacked and not installed.
provide_mmdebstrap() {
    if ! command -v mmdebstrap >/dev/null; then
        PATH=$(unpack_package "$1" mmdebstrap)/usr/bin:$PATH
    fi
}
