"""Writing and reading safetensors: equal content is equal bytes, and nothing is held twice.

Format: 8 bytes little-endian header length, JSON header padded with spaces to a multiple of 8, data
without gaps (huggingface/safetensors, README "Format").
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from wan_runtime import heartbeat
from wan_runtime.models import headers
from wan_runtime.models.headers import Header

SHARD_BYTES = 5 * 10**9
"""Bytes of one file of a sharded set, as the official releases have them."""
PIECE_BYTES = 2 * 10**9
"""Bytes of one file of float32 state on its way between GPU and store: several are on the disk at a
time."""
Layout = Mapping[str, tuple[torch.dtype, torch.Size]]
"""Dtypes and shapes of tensors, by name."""
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """A safetensors file with names and metadata in a fixed order; the library's own is random.

    Tensors may be on any device: they come to the host one at a time.
    """
    layout = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    stream_safetensors(path, layout, tensors.__getitem__, metadata)


def stream_safetensors(
    path: Path,
    layout: Layout,
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str],
) -> None:
    """As `write_safetensors`, of tensors that are made when they are written, once each."""
    # Wide types first, as the library does, so that every tensor is aligned.
    names = sorted(layout, key=lambda name: (-layout[name][0].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        dtype, shape = layout[name]
        start, end = end, end + shape.numel() * dtype.itemsize
        header[name] = {
            "dtype": DTYPES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in names:
            data = tensor(name).detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            file.write(data.numpy().data)
            heartbeat.beat()


def stream_shards(
    stem: Path,
    layout: Layout,
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    limit: int,
) -> Iterator[tuple[str, Path]]:
    """As `stream_safetensors`, into files of at most `limit` bytes that are named by `shard_name`;
    one after another, with their names."""
    sizes = {name: shape.numel() * dtype.itemsize for name, (dtype, shape) in layout.items()}
    groups = shards(sizes, limit)
    for number, names in enumerate(groups):
        path = stem.with_name(shard_name(stem.name, number, len(groups)))
        stream_safetensors(path, {name: layout[name] for name in names}, tensor, metadata)
        yield path.name, path


def shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names, in their order, in groups of at most `limit` bytes; a larger tensor stands alone."""
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def shard_name(stem: str, number: int, count: int) -> str:
    """`<stem>-00001-of-00003.safetensors`, `number` counted from 0; `<stem>.safetensors` if there
    is but one.
    """
    part = f"-{number + 1:05d}-of-{count:05d}" if count > 1 else ""
    return f"{stem}{part}.safetensors"


class SafetensorsFiles(Mapping[str, Tensor]):
    """The tensors of some files, each read from disk when it is asked for. Close it after use."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        for path in paths:
            file = self._stack.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(file.keys(), file)

    def __enter__(self) -> SafetensorsFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        heartbeat.beat()
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    def header(self) -> Header:
        """Dtypes and shapes of all tensors, which are not read."""
        slices = {name: file.get_slice(name) for name, file in self._files.items()}
        return Header(
            {
                name: headers.Tensor(each.get_dtype(), tuple(each.get_shape()))
                for name, each in slices.items()
            }
        )

    def shape(self, name: str) -> torch.Size:
        """Without reading the tensor."""
        return torch.Size(self._files[name].get_slice(name).get_shape())
