"""What a file of weights holds, by its first bytes alone: names, dtypes and shapes of its tensors.

Files that are no weights at all are named for what they are: pointers of git-lfs, web pages, GGUF.
Format: 8 bytes little-endian header length, JSON header, data without gaps
(huggingface/safetensors, README "Format").
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError

Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes of a file; fewer at its end."""

BEGINNING = 512
"""Bytes by which a file's format is known."""
LIMIT = 100 << 20
"""Bytes of a header, as safetensors limits it."""
BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "BOOL": 8,
    "I8": 8, "U8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of an element, by safetensors' names of dtypes."""

LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\b")
LFS_SIZE = re.compile(rb"^size (\d+)$", re.MULTILINE)
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"7z\xbc\xaf": "7z",
}
ZIP = b"PK\x03\x04"
"""First bytes of a ZIP archive, which torch's `.pth` is too."""
PICKLE = b"\x80\x02"
"""First bytes of a `.pth` of torch before 1.6."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor, without its data."""

    dtype: str
    """As safetensors names it: `BF16`, `F8_E4M3`."""
    shape: tuple[int, ...]
    place: tuple[int, int] | None = None
    """Offsets in its file of the first byte and of that behind the last; None: of a pickle."""


@dataclass(frozen=True, slots=True)
class Header:
    """Tensors and metadata of a file, or of the shards of one model."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def dtypes(self) -> Counter[str]:
        """How many tensors there are of each."""
        return Counter(tensor.dtype for tensor in self.tensors.values())


def invalid(name: str, what: str) -> InputError:
    return InputError(Reason.MODEL_INVALID, f"{name} {what}")


def read_header(read: Read, size: int, name: str) -> Header:
    """The header of a safetensors file of `size` bytes.

    Raises:
        InputError: MODEL_INVALID, also for a file that was cut off.
    """
    beginning = read(0, min(BEGINNING, size))
    what = other_than_weights(beginning, size)
    if what is None and beginning.startswith((ZIP, PICKLE)):
        what = "is a pickle of torch under the name of a safetensors file: give it the suffix .pth"
    if what is not None:
        raise invalid(name, what)
    length = int.from_bytes(beginning[:8], "little")
    if beginning[8:9] != b"{" or not 2 <= length <= LIMIT:
        raise invalid(name, f"is no safetensors file: it begins with {beginning[:8].hex(' ')}")
    if length > size - 8:
        raise invalid(name, f"was cut off within its header: {size} of over {8 + length} bytes")
    text = beginning[8 : 8 + length]
    if len(text) < length:
        text += read(BEGINNING, length - len(text))
    try:
        entries: dict[str, Any] = json.loads(text)
        metadata = entries.pop("__metadata__", {})
        tensors = {key: _tensor(entry, 8 + length) for key, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise invalid(name, "has a damaged header: fetch it again") from error
    _require_whole(name, tensors, 8 + length, size)
    return Header(tensors, {str(key): str(value) for key, value in dict(metadata).items()})


def joined(headers: Mapping[str, Header]) -> Header:
    """Merge the headers of all shards of a model, given by file name. Raises
    InputError(MODEL_INVALID) if two hold the same tensor: which of them counts would be chance.
    """
    owner: dict[str, str] = {}
    for name, header in headers.items():
        for tensor in header.tensors:
            if owner.setdefault(tensor, name) != name:
                raise invalid(
                    f"{owner[tensor]} and {name}",
                    f"both hold {tensor}: they are of two sets of files. Keep one",
                )
    tensors = {key: tensor for header in headers.values() for key, tensor in header.tensors.items()}
    metadata = {key: text for each in headers.values() for key, text in each.metadata.items()}
    return Header(tensors, metadata)


def other_than_weights(beginning: bytes, size: int) -> str | None:
    """What a file is that begins so and holds no weights; None, if it may hold some."""
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        return "is empty: its upload or download never began"
    if LFS.match(beginning):
        stated = LFS_SIZE.search(beginning)
        whole = f" of {int(stated[1]):,} bytes" if stated else ""
        return (
            f"is a pointer of git-lfs in place of the file{whole}: run `git lfs pull` where it was "
            "cloned, and upload it again"
        )
    if beginning.startswith(b"GGUF"):
        return "is GGUF, quantised for ComfyUI-GGUF or llama.cpp"
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is a web page in place of the file: an error or a log-in answered its download"
    if text.startswith(b"<?xml"):
        return "is an XML text, such as a store's error, in place of the file: fetch it again"
    if text.startswith((b"{", b"[")):
        return "is a JSON text, such as a server's error, in place of the file: fetch it again"
    for magic, kind in COMPRESSED.items():
        if beginning.startswith(magic):
            return f"is compressed by {kind}: unpack it"
    if not any(beginning):
        return "begins with zeros: space was set aside for it, and its download did not end"
    return None


def _tensor(entry: Mapping[str, Any], begin: int) -> Tensor:
    first, last = (int(offset) for offset in entry["data_offsets"])
    shape = tuple(int(side) for side in entry["shape"])
    dtype = str(entry["dtype"])
    if dtype in BITS and (last - first) * 8 != prod(shape) * BITS[dtype]:
        raise ValueError("its place does not fit its shape")
    return Tensor(dtype, shape, (begin + first, begin + last))


def _require_whole(name: str, tensors: Mapping[str, Tensor], begin: int, size: int) -> None:
    """Data without gaps to the very end: the library refuses anything else, but later."""
    places = sorted(tensor.place for tensor in tensors.values() if tensor.place is not None)
    end = places[-1][1] if places else begin
    if size < end:
        raise invalid(name, f"was cut off: it has {size:,} of {end:,} bytes. Fetch it again")
    if size > end:
        raise invalid(name, f"has {size - end:,} bytes behind its end at {end:,}: fetch it again")
    if places and (places[0][0] != begin or _gaps(places)):
        raise invalid(name, "has a damaged header, with gaps between its tensors: fetch it again")


def _gaps(places: Iterable[tuple[int, int]]) -> bool:
    return any(before[1] != after[0] for before, after in pairwise(places))
