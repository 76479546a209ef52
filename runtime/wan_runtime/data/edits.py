"""Edit lists of MP4 and MOV (ISO/IEC 14496-12, 8.6.6): which parts of a track are shown."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wan_runtime.data.dataset import Code
from wan_runtime.data.facts import ClipRejected, Facts
from wan_runtime.data.frames import Displayed
from wan_runtime.data.tags import Track, after_times, boxes

NORMAL = 1 << 16
"""Speed of a part, as its file counts it."""
PAUSE = "has a pause between two parts of its edit list, which is not read: export it as one part"
SPEED = (
    "shows a part of its edit list at {:g} times its speed, which is not read: export it as it is "
    "shown"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is shown, in seconds."""

    start: Fraction
    """Time in the track."""
    duration: Fraction | None
    """None: to the end of the track."""


def several(track: Track, stream: Any, facts: Facts) -> list[Part]:
    """Parts of the edit list of an MP4 that has more than one, be it a pause at the end; of others,
    which FFmpeg reads right, none.

    Raises ClipRejected(UNDECODABLE) for a pause between two parts, where FFmpeg shows frames from
    the beginning of the file, and for another speed than the normal one, which it leaves aside."""
    entries = _entries(dict(boxes(track.get(b"edts", b""))).get(b"elst", b""))
    while entries and entries[0][1] == -1:
        del entries[0]
    if any(start == -1 for _, start, _ in entries[:-1]):
        raise ClipRejected(Code.UNDECODABLE, PAUSE, facts)
    alone = len(entries) < 2
    entries = [entry for entry in entries if entry[1] != -1]
    for _, _, speed in entries:
        # 0 is a still, and in a list of one part what some writers put there for nothing.
        if speed != NORMAL and (speed or not alone):
            raise ClipRejected(Code.UNDECODABLE, SPEED.format(speed / NORMAL), facts)
    if alone:
        return []
    tick = tick_of(track)
    return [
        Part(start * stream.time_base, duration * tick if duration else None)
        for number, (duration, start, _) in enumerate(entries, 1)
        if duration or number == len(entries)
    ]


def tick_of(track: Track) -> Fraction:
    """What durations of parts are whole numbers of, in seconds."""
    return Fraction(1, after_times(track.get(b"mvhd", b"")) or 1000)


def edited(
    parts: Sequence[Part],
    opened: Callable[[], Iterator[Displayed[Any]]],
    sliver: Fraction,
    facts: Facts,
) -> Iterator[Displayed[Any]]:
    """The frames of each part, one part after the other, at the times at which they are shown.

    FFmpeg leaves out frames of HEVC here, or shows them late or in another order.

    Args:
        opened: gives the frames of the whole track from its beginning, by its own times.
        sliver: in seconds. A frame that is shown no longer is what rounding left of it.
    """
    begun, number = Fraction(0), 0
    length: Fraction | None = None
    now: Displayed[Any] | None = None
    source: Iterator[Displayed[Any]] = iter(())
    for part in parts:
        end = None if part.duration is None else part.start + part.duration
        beyond = length is not None and part.start >= length
        if not beyond and (now is None or part.start < now.time - sliver):
            source = _until_the_next(opened())
            now = next(source, None)
        while now is not None and not beyond:
            over = now.time + now.duration
            if over > part.start + sliver and (end is None or now.time < end - sliver):
                number += 1
                facts.decoded = number
                first, last = max(now.time, part.start), over if end is None else min(over, end)
                yield Displayed(begun + first - part.start, last - first, now.frame)
            if end is not None and over >= end - sliver:
                break
            now = next(source, None)
            if now is None:
                length = over
        begun += part.duration or 0


def _until_the_next(displayed: Iterator[Displayed[Any]]) -> Iterator[Displayed[Any]]:
    """Frames that are each on the screen until the next; by a broken clock none goes back,
    and of several at one time the last is shown."""
    held: Displayed[Any] | None = None
    for now in displayed:
        if held is not None:
            if now.time < held.time:
                continue
            if now.time > held.time:
                yield Displayed(held.time, now.time - held.time, held.frame)
        held = now
    if held is not None:
        yield held


def _entries(edits: bytes) -> list[tuple[int, int, int]]:
    """Duration, time in the track (-1: a pause) and speed of each part of a box `elst`."""
    form = struct.Struct(">Qqi" if edits[:1] == b"\1" else ">Iii")
    count = min(int.from_bytes(edits[4:8]), (len(edits) - 8) // form.size)
    return [form.unpack_from(edits, 8 + number * form.size) for number in range(count)]
