"""Scratch space: checked before it is used, because a full disk ends hours of work at their end."""

from __future__ import annotations

import shutil
from pathlib import Path

from wan_runtime.errors import InfrastructureError
from wan_runtime.job import Reason


def require(folder: Path, size: int, what: str, hint: str = "raise spec.resources.cache") -> None:
    """Raises InfrastructureError(DISK_FULL) unless `folder` has room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InfrastructureError(
            Reason.DISK_FULL,
            f"{what} needs {size / 1e9:.1f} GB in {folder} and {free / 1e9:.1f} GB are free there: "
            f"{hint}",
        )
