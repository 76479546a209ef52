"""Tensors of the device in pinned host memory, copied both ways beside the computation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Key = tuple[str, int]
"""Kind of tensor, and index of its block."""


class Ticket(NamedTuple):
    """A tensor that was put away."""

    key: Key
    number: int


class HostCopies:
    """One tensor for each key. Buffers are pinned once, and used again by the next step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._buffers: dict[Key, Tensor] = {}
        self._held: dict[Key, tuple[int, torch.Size, torch.dtype]] = {}
        self._coming: dict[Key, Tensor] = {}
        self._count = 0

    def put(self, key: Key, tensor: Tensor) -> Ticket:
        """Copy a tensor to host memory, behind what computes it. A tensor of the same key that has
        not been taken is dropped."""
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < tensor.numel() or buffer.dtype is not tensor.dtype:
            pinned = self._stream is not None
            buffer = torch.empty(tensor.numel(), dtype=tensor.dtype, pin_memory=pinned)
            self._buffers[key] = buffer
        view = buffer[: tensor.numel()].view(tensor.shape)
        if self._stream is None:
            view.copy_(tensor)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                view.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._stream)
        self._count += 1
        self._held[key] = (self._count, tensor.shape, tensor.dtype)
        return Ticket(key, self._count)

    def take(self, ticket: Ticket) -> Tensor:
        """The tensor, on the device. Raises RuntimeError if another was put in its place."""
        held = self._held.get(ticket.key)
        if held is None or held[0] != ticket.number:
            raise RuntimeError(f"{ticket.key} was overwritten before its gradient was computed")
        self._fetch(ticket.key)
        tensor = self._coming.pop(ticket.key)
        del self._held[ticket.key]
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            tensor.record_stream(current)
        return tensor

    def fetch_before(self, index: int) -> None:
        """Begin to bring back what is held of the block before `index`."""
        for key in [key for key in self._held if key[1] == index - 1]:
            self._fetch(key)

    def _fetch(self, key: Key) -> None:
        if key in self._coming:
            return
        _, shape, dtype = self._held[key]
        source = self._buffers[key][: shape.numel()].view(shape)
        if self._stream is None:
            self._coming[key] = source.clone()
            return
        # What of the memory was in use before is done with: the allocation is of this stream's.
        with torch.cuda.stream(self._stream):
            self._coming[key] = torch.empty(shape, dtype=dtype, device=self._device)
            self._coming[key].copy_(source, non_blocking=True)
