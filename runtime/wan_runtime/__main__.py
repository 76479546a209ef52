"""`python -m wan_runtime`: the entry point of the runtime image."""

from wan_runtime.cli import main

raise SystemExit(main())
