"""The step `rate` as its pod runs it; the first judgement that it saves ends it before it answers.

WAN_TEST_KILLED is the path of a file that is there from then on.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from wan_runtime.artifacts.store import ObjectInfo, Store
from wan_runtime.process import child, step

write = Store.put_bytes


def put_bytes(store: Store, key: str, data: bytes, **options: Any) -> ObjectInfo:
    """In the place of the method."""
    info = write(store, key, data, **options)
    mark = Path(os.environ["WAN_TEST_KILLED"])
    if "/ratings/" in key and not key.endswith("links.json") and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return info


if __name__ == "__main__":
    Store.put_bytes = put_bytes  # type: ignore[method-assign, assignment]
    child.enter(step.main)
