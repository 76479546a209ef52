"""Which clips a pod takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from wan_runtime.contract.steps import Shard

T = TypeVar("T")


def part_of(items: Sequence[T], shard: Shard | None) -> Sequence[T]:
    """What one of several pods takes: every `count`th. All without a shard."""
    return items if shard is None else items[shard.index :: shard.count]
