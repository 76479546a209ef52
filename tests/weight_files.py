"""Files of weights without weights: true headers over holes, of any size and kind."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wan_runtime.models.headers import BITS, Header, Tensor, read_header

Shapes = Mapping[str, tuple[int, ...]]


def header(held: Shapes, dtype: str = "BF16", dtypes: Mapping[str, str] | None = None) -> Header:
    """Of tensors of these shapes, in `dtype` or as `dtypes` says by name."""
    return Header(
        {name: Tensor((dtypes or {}).get(name, dtype), shape) for name, shape in held.items()}
    )


def head(held: Header, metadata: Mapping[str, str] | None = None) -> tuple[bytes, int]:
    """The beginning of a safetensors file with these tensors, and the bytes of the whole."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in held.tensors.items():
        size = math.prod(tensor.shape) * BITS[tensor.dtype] // 8
        place = [end, end + size]
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": place}
        end += size
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + end


def sparse(path: Path, held: Header) -> Path:
    """A safetensors file of the full size, with holes for data."""
    beginning, size = head(held)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(size)
    return path


def read_back(data: bytes, name: str = "model.safetensors") -> Header:
    """What the runtime reads of a file in memory."""
    return read_header(lambda offset, length: data[offset : offset + length], len(data), name)
