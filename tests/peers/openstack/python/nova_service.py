"""One of Nova's services, with our hypervisor among the drivers. Argument: which."""

import importlib
import sys

part = sys.argv.pop(1)
sys.argv[0] = f"nova-{part}"
main = importlib.import_module(f"nova.cmd.{part}").main
if part == "compute":
    # Nova looks for drivers below `nova.virt` only.
    sys.modules["nova.virt.machines"] = importlib.import_module("machines")
sys.exit(main())
