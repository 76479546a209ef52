"""What rank 0 has the other ranks do while it alone reads or writes a file."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class Order(IntEnum):
    """Things that all ranks do together, at rank 0's word."""

    END = 0
    BEGIN = 1
    READ = 2
    WRITE = 3
    COUNT = 4


class Orders:
    """Orders from rank 0 to all others."""

    def __init__(self, obey: Callable[[Order, int, int, Tensor | None], Any]) -> None:
        """
        Args:
            obey: does this rank's part of an order, from its two numbers and, on rank 0, a tensor.
        """
        self._obey = obey

    def give(
        self, order: Order, first: int = 0, second: int = 0, given: Tensor | None = None
    ) -> Any:
        """Send an order, and do rank 0's part of it."""
        _send(order, first, second)
        return self._obey(order, first, second, given)

    def ending(self, action: Callable[[], T]) -> T:
        """Do something on rank 0; the others stop following, also if it fails."""
        try:
            return action()
        finally:
            _send(Order.END)

    def follow(self) -> None:
        """Do this rank's parts of what rank 0 orders, until it ends."""
        while True:
            order, first, second = _send(Order.END)
            if order == Order.END:
                return
            self._obey(Order(order), first, second, None)


def _send(order: Order, first: int = 0, second: int = 0) -> list[int]:
    """Rank 0's numbers, on all ranks; those of the others do not count."""
    numbers = torch.tensor([order, first, second])
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast(numbers, src=0)
    sent: list[int] = numbers.tolist()
    return sent
