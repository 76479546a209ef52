"""Entry point of a rank: `python -m wan_runtime.serving.worker.start_rank`."""

from __future__ import annotations

from wan_runtime.process import child
from wan_runtime.process.imports import import_large

if __name__ == "__main__":
    child.die_with_parent()  # importing torch takes seconds, in which the worker may be killed
    import_large("wan_runtime.serving.worker.rank").enter()
