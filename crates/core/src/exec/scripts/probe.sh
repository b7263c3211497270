# What runs here? $1: the metrics-exchange folder.
say() {
    if [ "$2" ]; then echo "$1 yes"; else echo "$1 no"; fi
}
installed=''
if [ -f "$1/runner-installed.timestamp" ]; then installed=yes; fi
say installed "$installed"
find_processes Runner.Listener
say listener "$pids"
find_processes Runner.Worker
say worker "$pids"
# A job runs, whatever cloud-init would say, and asking it takes half a second of the job's processor.
if [ "$pids" ]; then exit 0; fi
if command -v cloud-init >/dev/null; then
    cloud-init status 2>/dev/null
fi
exit 0
