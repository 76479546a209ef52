"""Writing safetensors so that equal content is equal bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """A safetensors file with metadata in sorted order; the library's own order is random.

    Format: 8 bytes little-endian header length, JSON header padded with spaces to a multiple of 8,
    data (huggingface/safetensors, README "Format").
    """
    data = memoryview(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    (length,) = struct.unpack("<Q", data[:8])
    header = {
        "__metadata__": dict(sorted(metadata.items())),
        **json.loads(bytes(data[8 : 8 + length])),
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        file.write(data[8 + length :])
