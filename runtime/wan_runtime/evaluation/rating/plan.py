"""What each rater judges, and in which order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from wan_runtime.contract.evaluation import RatingSpec
from wan_runtime.evaluation.records import Stored, TestClip, Video


@dataclass(frozen=True, slots=True)
class Side:
    """One of the videos that are judged together."""

    candidate: str
    """Name of a candidate, or `reference`. The page never has it."""
    video: Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One judgement that a rater gives."""

    clip: TestClip
    sides: tuple[Side, ...]
    """One video, or two as they stand on the page."""
    repeat: bool = False
    """Whether the rater has judged the same before."""

    @property
    def id(self) -> str:
        """Blind name, of 32 hexadecimal digits. It belongs to the content that is judged: what was
        said of it still counts after the evaluation is edited, and of other content never."""
        sides = sorted((side.candidate, side.video.sha256) for side in self.sides)
        return _digest(self.clip.prompt, sides, self.repeat)[:32]


def planned(
    spec: RatingSpec, clips: Sequence[TestClip], videos: Iterable[Video], seed: int
) -> dict[str, tuple[Item, ...]]:
    """Items of each rater in an order of his own. The same for the same arguments."""
    known = {clip.id: clip for clip in clips}
    sides: dict[str, list[Side]] = {clip.id: [] for clip in clips}
    for video in videos:
        # Further renders of a candidate are the noise floor, which nobody judges.
        first = video.render == "First" and video.clip in known
        if first and video.video is not None:
            sides[video.clip].append(Side(video.candidate, video.video))
    count = 1 if spec.mode == "Scores" else 2
    items = [
        Item(clip=known[clip], sides=together)
        for clip, each in sides.items()
        for together in combinations(each, count)
    ]
    return {rater: _ordered(rater, items, spec.repeats, seed) for rater in spec.raters}


def _ordered(rater: str, items: Sequence[Item], repeats: int, seed: int) -> tuple[Item, ...]:
    """Items in random order; what is repeated comes in the first half and again in the second."""

    def drawn(item: Item, what: str) -> str:
        return _digest(seed, rater, item.id, what)

    order = [
        _turned(item) if drawn(item, "side")[0] in "01234567" else item
        for item in sorted(items, key=lambda item: drawn(item, "order"))
    ]
    half = len(order) // 2
    again = sorted(order[: len(order) - half], key=lambda item: drawn(item, "repeat"))[:repeats]
    # The other way round: who always prefers the left one is found out.
    second = [replace(_turned(item), repeat=True) for item in again]
    late = [*order[len(order) - half :], *second]
    late.sort(key=lambda item: drawn(item, "late"))
    return (*order[: len(order) - half], *late)


def _turned(item: Item) -> Item:
    return replace(item, sides=item.sides[::-1])


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
