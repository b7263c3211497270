#!/usr/bin/python3
# Ends the runner cleanly when EC2 takes a spot instance back. docs/backends/ec2.md tells how.
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request

EXCHANGE = "@EXCHANGE@"
METADATA = os.environ.get("RM_METADATA", "http://169.254.169.254")
POLL = float(os.environ.get("RM_POLL", "5"))
# How long a job may take to end after its runner was asked to, and how long the instance then
# stays up for the manager to read what became of it.
GRACE = float(os.environ.get("RM_GRACE", "60"))
LINGER = float(os.environ.get("RM_LINGER", "30"))
OFF = os.environ.get("RM_OFF", "/sbin/poweroff")
# The metadata service is this machine's own: no proxy knows it.
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def ask(path, token, method="GET"):
    """The answer, or None when there is no such thing."""
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    if method == "GET":
        headers = {"X-aws-ec2-metadata-token": token}
    request = urllib.request.Request(METADATA + path, headers=headers, method=method)
    try:
        with OPEN(request, timeout=2) as answer:
            return answer.read(4096).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def notices():
    """Whether the end is announced, and whether it has become likely."""
    token = ask("/latest/api/token", "", "PUT")
    end = ask("/latest/meta-data/spot/instance-action", token)
    likely = ask("/latest/meta-data/events/recommendations/rebalance", token)
    return end is not None, likely is not None


def find(name, parents=()):
    """The living processes of a name, and the living children of some processes."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                line = stat.read()
        except OSError:
            continue
        comm = line[line.index("(") + 1 : line.rindex(")")]
        state, parent = line[line.rindex(")") + 1 :].split()[:2]
        if (comm == name or int(parent) in parents) and state not in "ZX":
            found.append(int(pid))
    return found


def signal_all(pids, which):
    for pid in pids:
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            pass


def note():
    """Says that the job did not end by itself, unless something is said already."""
    path = os.path.join(EXCHANGE, "post-job-metrics.json")
    text = json.dumps({"timestamp": time.time(), "status": "abnormal"})
    try:
        folder = os.stat(EXCHANGE)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text + "\n")
            os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
    except OSError:
        pass


def stop_idle():
    """Stops the runner if it has no job. Frozen, it can take none while it is looked at."""
    listeners = find("Runner.Listener")
    signal_all(listeners, signal.SIGSTOP)
    time.sleep(0.2)
    # A child of the listener may be a worker that has not taken its name yet.
    if find("Runner.Worker", listeners):
        signal_all(listeners, signal.SIGCONT)
        return False
    signal_all(listeners, signal.SIGKILL)
    return True


def stop_busy():
    """Lets the runner cancel its job and tell GitHub so, as Ctrl+C does."""
    note()
    signal_all(find("Runner.Listener"), signal.SIGINT)
    end = time.monotonic() + GRACE
    while (find("Runner.Listener") or find("Runner.Worker")) and time.monotonic() < end:
        time.sleep(0.5)
    signal_all(find("Runner.Listener") + find("Runner.Worker"), signal.SIGKILL)


def watch():
    while True:
        try:
            end, likely = notices()
        except (OSError, ValueError):
            end, likely = False, False
        if end or likely:
            # A job goes on until the end is certain: it may still finish in time.
            if stop_idle():
                break
            if end:
                stop_busy()
                break
        time.sleep(POLL)
    time.sleep(LINGER)
    os.execv(OFF, [OFF])


def detach():
    """Leaves the boot, which waits for this program, and its output."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


if __name__ == "__main__":
    if "--stay" not in sys.argv:
        detach()
    watch()
