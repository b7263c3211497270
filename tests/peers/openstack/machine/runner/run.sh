#!/bin/sh
# A stand-in for the runner program: it listens until it is ended.
exec "$(dirname "$0")/bin/Runner.Listener"
