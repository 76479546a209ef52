"""Modules that take turns on a GPU: their weights live in host memory, and copies of them work.

Frozen weights need no way back: `module.to("cpu")` would copy 28 GB of what the host had all along.
"""

from __future__ import annotations

import logging
import weakref
from contextlib import suppress
from itertools import chain
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

ALIGNMENT = 256
"""Bytes; what copies and kernels like."""


class Pinned:
    """Frozen tensors in one block of host memory, page-locked if the device is a GPU."""

    def __init__(self, tensors: list[Tensor], device: torch.device) -> None:
        """They move there."""
        self._tensors = tensors
        self.block = _gather(tensors)
        if device.type == "cuda" and _lock(self.block, device):
            # Memory that is freed and taken again while it counts as locked fails at once.
            weakref.finalize(self, _unlock, self.block).atexit = False
        self._home = [tensor.data for tensor in tensors]

    def place(self, copy: Tensor) -> None:
        """Let the tensors be those of a copy of the block, wherever it is."""
        start = self.block.data_ptr()
        for tensor, home in zip(self._tensors, self._home, strict=True):
            offset = home.data_ptr() - start
            part = copy[offset : offset + home.nbytes]
            tensor.data = part.view(home.dtype).view(home.shape)

    def put_back(self) -> None:
        """Let the tensors be those in host memory."""
        for tensor, home in zip(self._tensors, self._home, strict=True):
            tensor.data = home


class Offloaded:
    """A frozen module on a device that has no room for it all the time.

    As a context manager: on the device for as long as it lasts.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        """Its weights move into page-locked memory, if the device is a GPU."""
        self._device = device
        self._home = Pinned(list(chain(module.parameters(), module.buffers())), device)
        self._away = False

    def bring(self) -> None:
        """To the device, where it already may be."""
        if not self._away:
            block = self._home.block
            self._home.place(block.to(self._device, non_blocking=True, copy=True))
            self._away = True

    def leave(self) -> None:
        """Free the device's memory."""
        self._home.put_back()
        self._away = False

    def __enter__(self) -> None:
        self.bring()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


def _gather(tensors: list[Tensor]) -> Tensor:
    """Into one block of host memory. Torch's own allocator of page-locked memory would round each
    tensor up to a power of two."""
    offsets, end = [], 0
    for tensor in tensors:
        offsets.append(end)
        end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    block = torch.empty(end, dtype=torch.uint8)
    for tensor, offset in zip(tensors, offsets, strict=True):
        place = block[offset : offset + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        tensor.data = place.copy_(tensor.data)
    return block


def _lock(block: Tensor, device: torch.device) -> bool:
    """Whether it is page-locked now."""
    cuda: Any = torch.cuda
    answer = cuda.cudart().cudaHostRegister(block.data_ptr(), block.nbytes, 0)
    if int(answer) != 0:
        log.warning(
            "no page-locked memory for %.1f GiB: CUDA says %s", block.nbytes / 2**30, answer
        )
        # CUDA keeps the error for the next kernel's start, which torch would take for its own.
        with suppress(RuntimeError):
            torch.ones(1, device=device)
    return int(answer) == 0


def _unlock(block: Tensor) -> None:
    cuda: Any = torch.cuda
    cuda.cudart().cudaHostUnregister(block.data_ptr())
