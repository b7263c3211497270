# shellcheck shell=bash
# What all scripts share: the helper, and the files that the manager reads. Sourced, after
# settings.sh.

helper() {
    /usr/bin/python3 -I "$RM_BASE/helper.py" "$@"
}

now() {
    date +%s.%3N
}

# A reader sees a file whole or not at all.
put() {
    printf '%s\n' "$2" >"$RM_EXCHANGE/.$1.new" && mv -f "$RM_EXCHANGE/.$1.new" "$RM_EXCHANGE/$1"
}

# How the job ended, unless that is said already.
post_job() {
    if [ ! -e "$RM_EXCHANGE/post-job-metrics.json" ]; then
        put post-job-metrics.json "{\"timestamp\":$(now),$1}"
    fi
}
