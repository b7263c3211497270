#!/bin/sh
# The runner of the conformance suite: it listens until it is stopped; a line in the pipe is a
# job, which never ends by itself.
here=$(cd "$(dirname "$0")" && pwd)
mkfifo -m 666 "$HOME/jobs"
"$here/bin/Runner.Listener" &
wait $!
