"""What raters judge, and in which order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from rating_panels import test_clip
from wan_operator.api.v1alpha1.evaluation import Ratings
from wan_runtime.contract.evaluation import RatingSpec
from wan_runtime.evaluation.rating.plan import Item, planned
from wan_runtime.evaluation.records import Stored, TestClip, Video
from wan_runtime.evaluation.statistics.raters import REPEATED

NAMES = ("base", "ours", "reference")


def video(clip: TestClip, candidate: str, digest: str = "") -> Video:
    stored = Stored(uri=f"s3://wan/{candidate}", sha256=digest or candidate, bytes=1)
    return Video(clip=clip.id, candidate=candidate, video=stored)


def plan(count: int = 8, seed: int = 0, **spec: Any) -> dict[str, tuple[Item, ...]]:
    clips = [test_clip(number) for number in range(1, count + 1)]
    videos = [video(clip, name) for clip in clips for name in NAMES]
    videos.append(video(clips[-1], "ours", "again").model_copy(update={"render": "OtherSeed"}))
    videos[0] = videos[0].model_copy(update={"video": None, "failure": "out of memory"})
    raters = RatingSpec.model_validate({"raters": ["ann", "bob"], "repeats": 3, **spec})
    return planned(raters, clips, videos, seed)


def first(items: tuple[Item, ...]) -> list[tuple[str, str]]:
    return [(item.clip.id, item.sides[0].candidate) for item in items if not item.repeat]


def test_all_judge_all_videos_that_there_are_in_orders_of_their_own() -> None:
    ann, bob = plan()["ann"], plan()["bob"]
    wanted = {(f"clip-{n:04d}", name) for n in range(1, 9) for name in NAMES}
    wanted.remove(("clip-0001", "base"))
    for items in (ann, bob):
        assert set(first(items)) == wanted
        assert len(first(items)) == len(wanted)
        assert len(items) == len(wanted) + 3
        assert len({item.id for item in items}) == len(items)
    assert first(ann) != first(bob)
    assert first(ann) != sorted(first(ann))
    assert plan() == plan()
    assert first(plan(seed=1)["ann"]) != first(ann)


@pytest.mark.parametrize("mode", ["Scores", "Pairs"])
def test_repeats_come_late(mode: str) -> None:
    items = plan(mode=mode)["ann"]
    again = [(at, item) for at, item in enumerate(items) if item.repeat]
    assert len(again) == 3
    for at, item in again:
        before = next(
            number
            for number, other in enumerate(items)
            if other.clip == item.clip and {*other.sides} == {*item.sides} and not other.repeat
        )
        assert before < (len(items) - 3) / 2 <= at
        assert item.sides == items[before].sides[::-1], "the other way round"


def test_as_many_videos_are_repeated_by_default_as_find_an_unsteady_rater() -> None:
    assert RatingSpec(raters=("ann",)).repeats == Ratings(raters=["ann"]).repeats >= REPEATED


def test_more_repeats_than_videos() -> None:
    clip = test_clip(1)
    for spec in ({"repeats": 20}, {"repeats": 20, "mode": "Pairs"}):
        items = plan(count=1, **spec)["ann"]
        assert Counter(item.repeat for item in items)[True] >= 1
        assert items[0].clip == clip


def test_a_pair_is_of_one_clip_and_each_side_is_left_about_as_often() -> None:
    items = plan(count=40, mode="Pairs", repeats=0)["ann"]
    left = Counter(item.sides[0].candidate for item in items)
    assert all(item.sides[0].candidate != item.sides[1].candidate for item in items)
    assert len(items) == 40 * 3 - 2
    assert all(25 < left[name] < 55 for name in NAMES), left


def test_an_item_is_what_it_shows() -> None:
    """A judgement counts after an edit as long as it is of the same videos."""
    clip, spec = test_clip(1), RatingSpec(raters=("ann",), repeats=0)

    def only(clip: TestClip, candidate: str = "ours", digest: str = "a") -> str:
        (item,) = planned(spec, [clip], [video(clip, candidate, digest)], 0)["ann"]
        return item.id

    again = clip.model_copy(update={"id": "clip-0007"})
    assert only(again) == only(clip)
    other = [
        only(clip, digest="b"),
        only(clip, "base"),
        only(clip.model_copy(update={"prompt": ""})),
    ]
    assert len({only(clip), *other}) == 4
