"""`python3 e2e/cluster <command>`: the folder runs before any virtual environment exists."""

import sys
from pathlib import Path

# The folder itself is on the path when it is run; its modules must be importable only as
# `cluster.*`, so its place is taken by its parent.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cluster.commands import main  # noqa: E402

raise SystemExit(main())
