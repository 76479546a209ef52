"""A frozen transformer whose blocks rest in host memory and come to the GPU as they are needed.

Two blocks have room there. While one computes, the next is copied beside it, out of page-locked
memory by a stream of its own. A block of 14B takes about 30 ms to come over PCIe 4 and a quarter of
a second to compute a video of 720p: so the copies are not waited for, and neither is the second of
two experts when its turn comes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.models.offload import Pinned
from wan_runtime.planner.placement import ROOM


class Streamed:
    """Blocks of a transformer; the rest of it is on the device."""

    def __init__(self, module: Any, device: torch.device) -> None:
        """The weights of the blocks move into page-locked memory, if the device is a GPU."""
        self._device = device
        self._blocks: list[nn.Module] = list(module.blocks)
        own = {id(tensor) for block in self._blocks for tensor in _tensors(block)}
        for tensor in _tensors(module):
            if id(tensor) not in own:
                tensor.data = tensor.data.to(device)
        self._homes = [Pinned(list(_tensors(block)), device) for block in self._blocks]
        cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._rooms: list[Tensor] = []
        self._holds: list[int | None] = [None] * ROOM
        """Block that each room has, or that is on its way there."""
        self._came: list[Any] = [None] * ROOM

    def bring(self) -> None:
        """Begin to copy the first blocks, if none is there."""
        if not self._rooms:
            size = max(home.block.nbytes for home in self._homes)
            self._rooms = [
                torch.empty(size, dtype=torch.uint8, device=self._device) for _ in range(ROOM)
            ]
            self._fetch(0)
            self._fetch(1)

    def leave(self) -> None:
        """Free the device's memory."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._rooms, self._holds = [], [None] * ROOM

    def blocks(self) -> Generator[nn.Module]:
        """Each block in turn, on the device until the next one is asked for. To be closed by who
        leaves it early: the block at work stays where it is until then."""
        self.bring()
        for number, block in enumerate(self._blocks):
            self._fetch(number)
            room = number % ROOM
            if self._stream is not None:
                torch.cuda.current_stream(self._device).wait_event(self._came[room])
            home = self._homes[number]
            try:
                home.place(self._rooms[room])
                yield block
            finally:
                home.put_back()
            following = number + ROOM
            # After the last ones, the first ones of the next pass.
            self._fetch(following if following < len(self._blocks) else room)

    def _fetch(self, number: int) -> None:
        """Begin to copy a block behind what the device has to do, unless its room has it."""
        room = number % ROOM
        if self._holds[room] == number:
            return
        self._holds[room] = None  # a copy that fails leaves neither
        source = self._homes[number].block
        target = self._rooms[room][: source.nbytes]
        if self._stream is None:
            target.copy_(source)
        else:
            # What computed with the block that was there is done with it by then.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                target.copy_(source, non_blocking=True)
                self._came[room] = self._stream.record_event()
        self._holds[room] = number


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())
