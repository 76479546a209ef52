"""Entry point of a rank: `python -m wan_runtime.serving.worker.start_rank`."""

from __future__ import annotations

from wan_runtime.imports import import_large

if __name__ == "__main__":
    import_large("wan_runtime.serving.worker.rank").enter()
