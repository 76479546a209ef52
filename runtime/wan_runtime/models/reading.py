"""Tensors of safetensors files, read by several threads: one alone copies pages of the page cache
at a fraction of what memory and bus can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from wan_runtime.threads import in_order

THREADS = 8
PART_BYTES = 2**28
"""Bytes of the file that a thread reads at a time, about."""


def read(paths: Sequence[Path], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """All tensors of the files, rounded to a dtype, on the device."""
    place = device
    if device.type == "cuda" and device.index is None:
        # A thread begins on the first GPU, whichever one the caller has chosen.
        place = torch.device("cuda", torch.cuda.current_device())

    def part(work: tuple[Path, list[str]]) -> dict[str, Tensor]:
        path, names = work
        with safe_open(path, framework="pt", device=str(place)) as file:
            return {name: file.get_tensor(name).to(dtype) for name in names}

    found: dict[str, Tensor] = {}
    for tensors in in_order(part, _parts(paths), threads=THREADS):
        found |= tensors
    return found


def _parts(paths: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Names of tensors that lie one behind the other in a file."""
    for path in paths:
        with safe_open(path, framework="pt") as file:
            names = file.offset_keys()
        count = max(1, round(path.stat().st_size / PART_BYTES))
        size = -(-len(names) // count)
        for start in range(0, len(names), size):
            yield path, names[start : start + size]
