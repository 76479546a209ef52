"""Disk space: checked before it is used, because a full disk ends hours of work at their end."""

from __future__ import annotations

import math
import os
import re
import shutil
from pathlib import Path

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError

SCRATCH_VARIABLE = "WAN_SCRATCH"
"""Mount point of the scratch volume; the operator sets both."""
LIMIT_VARIABLE = "WAN_SCRATCH_LIMIT"
"""Its size limit, as a Kubernetes quantity."""
QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([kMGTPE]|[KMGTPE]i)?")


def require(folder: Path, size: int, what: str, hint: str = "raise spec.resources.cache") -> None:
    """Raises InfrastructureError(DISK_FULL) unless `folder` has room for `size` bytes."""
    free = min(shutil.disk_usage(folder).free, _allowed(folder))
    if free < size:
        raise InfrastructureError(
            Reason.DISK_FULL,
            f"{what} needs {_amount(size)} in {folder} and {_amount(free)} are free there: {hint}",
        )


def _amount(count: float) -> str:
    """Bytes for people."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def _allowed(folder: Path) -> float:
    """Bytes that may still be written to the scratch volume; infinite elsewhere. Its disk is the
    node's and may be free: the kubelet evicts a pod that goes beyond the limit.
    """
    root, limit = os.environ.get(SCRATCH_VARIABLE), os.environ.get(LIMIT_VARIABLE)
    if not root or not limit or not folder.absolute().is_relative_to(root):
        return math.inf
    return max(0.0, bytes_of(limit) - sum(map(_used, Path(root).rglob("*"))))


def _used(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:  # deleted meanwhile
        return 0


def bytes_of(quantity: str) -> float:
    """Bytes of a quantity such as `30Gi`, `5G` or `1e9`. Raises ValueError."""
    found = QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity of bytes, such as 30Gi")
    number, suffix = found.groups()
    if not suffix:
        return float(number)
    base = 1024 if suffix.endswith("i") else 1000
    return float(number) * math.pow(base, "KMGTPE".index(suffix[0].upper()) + 1)
