"""Which part of a clip is trained on. Pure arithmetic, in frames at the target rate."""

from __future__ import annotations

from wan_runtime.contract.dataset import WindowKind


def starts_of(kind: WindowKind, count: int, *, total: int, frames: int) -> tuple[int, ...]:
    """First frame of each window of `frames` frames in a clip of `total`.

    Spread: `count` windows from the beginning to the end, or as many as fit with no two sharing
    more than half of their frames.
    """
    room = total - frames
    if kind == "First" or room <= 0:
        return (0,)
    if kind == "Middle":
        return (room // 2,)
    last = min(count - 1, room // max(1, frames // 2))
    return tuple(round(index * room / last) for index in range(last + 1)) if last else (0,)
