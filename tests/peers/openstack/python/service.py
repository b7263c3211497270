"""One of the services of Nova or Cinder. Arguments: which of the two, which part, its options.

Our hypervisor is among Nova's drivers.
"""

import importlib
import sys

project, part = sys.argv.pop(1), sys.argv.pop(1)
sys.argv[0] = f"{project}-{part}"
main = importlib.import_module(f"{project}.cmd.{part}").main
if sys.argv[0] == "nova-compute":
    # Nova looks for drivers below `nova.virt` only.
    sys.modules["nova.virt.machines"] = importlib.import_module("machines")
sys.exit(main())
