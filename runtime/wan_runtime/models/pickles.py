"""`.pth` files of torch: what they hold, and their tensors. Nothing but tensors is unpickled."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from wan_runtime.errors import InputError, StepError
from wan_runtime.models.headers import (
    BEGINNING,
    PICKLE,
    ZIP,
    Header,
    Read,
    Tensor,
    invalid,
    other_than_weights,
)

WRAPPERS = ("state_dict", "module", "model_state")
BUFFER = 1 << 13
"""Bytes of one read: the directory of the archive and the pickle in it are small."""
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
}


class _Ranges(io.RawIOBase):
    """A file that is read in ranges from where it lies."""

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size, self._at = read, size, 0
        self.failure: StepError | OSError | None = None
        """Error of the last read that failed: torch raises one of its own instead."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, target: Any) -> int:
        length = max(0, min(len(target), self._size - self._at))
        try:
            data = self._read(self._at, length) if length else b""
        except (StepError, OSError) as error:
            self.failure = error
            raise
        target[: len(data)] = data
        self._at += len(data)
        return len(data)


def pickle_header(read: Read, size: int, name: str) -> Header:
    """Names, dtypes and shapes in a `.pth` of `size` bytes, read in a few small ranges.

    Raises:
        InputError: MODEL_INVALID, also for a file that was cut off.
    """
    _require_archive(read(0, min(BEGINNING, size)), size, name)
    file = _Ranges(read, size)
    try:
        with FakeTensorMode():  # knows shapes, and reads no data
            return header_of(_load(io.BufferedReader(file, BUFFER), name))
    except InputError as error:
        raise file.failure or error from error


def unpickled(path: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a `.pth`, mapped from the file. Raises as `pickle_header`."""
    with path.open("rb") as file:
        _require_archive(file.read(BEGINNING), path.stat().st_size, name)
    return _load(path, name)


def header_of(tensors: Mapping[str, torch.Tensor]) -> Header:
    return Header(
        {
            key: Tensor(DTYPES.get(each.dtype, str(each.dtype)), tuple(each.shape))
            for key, each in tensors.items()
        }
    )


def _require_archive(beginning: bytes, size: int, name: str) -> None:
    what = other_than_weights(beginning, size)
    if what is None and beginning.startswith(PICKLE):
        what = "is of torch before 1.6: load it with torch, and torch.save it again"
    if what is None and beginning[8:9] == b"{":
        what = "is a safetensors file under the name of a pickle: give it the suffix .safetensors"
    if what is None and not beginning.startswith(ZIP):
        what = f"is no file of torch: it begins with {beginning[:8].hex(' ')}"
    if what is not None:
        raise invalid(name, what)


def _load(source: Any, name: str) -> dict[str, torch.Tensor]:
    mapped = {"mmap": True} if isinstance(source, Path) else {}
    try:
        content = torch.load(source, map_location="cpu", weights_only=True, **mapped)
    except (StepError, OSError):
        raise  # of the store or the disk
    except (RuntimeError, ValueError, EOFError, KeyError) as error:
        raise invalid(name, "cannot be read by torch: was it cut off? Fetch it again") from error
    except Exception as error:  # pickle.UnpicklingError: something else than tensors
        raise invalid(name, "holds more than tensors, which is not unpickled") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and set(content) == {wrapper}:
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in content.values()
    ):
        raise invalid(name, "is no file of named tensors")
    return content
