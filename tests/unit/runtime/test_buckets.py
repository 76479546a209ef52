"""Which bucket a clip goes to, and how batches are drawn from several."""

from __future__ import annotations

from collections import Counter

import pytest

from wan_runtime.contract.dataset import Bucket
from wan_runtime.data.buckets import fitting, kept, one_of_each_bucket, shaped
from wan_runtime.data.latents import EncodedClip, Entry
from wan_runtime.training.sampler import Sampler


def bucket(name: str) -> Bucket:
    """`832x480x81`."""
    width, height, frames = map(int, name.split("x"))
    return Bucket(width=width, height=height, frames=frames)


BUCKETS = [
    bucket(name) for name in ("832x480x33", "480x832x81", "832x480x81", "624x624x49", "416x240x81")
]


@pytest.mark.parametrize(
    ("width", "height", "aspect", "order"),
    [
        # What crops least, then the longest, then the largest.
        (1280, 720, 1.0, "832x480x81 416x240x81 832x480x33 624x624x49"),
        (720, 1280, 1.0, "480x832x81 624x624x49 416x240x81"),
        (720, 720, 1.0, "624x624x49 416x240x81"),
        # Never enlarged.
        (640, 360, 1.0, "416x240x81"),
        (400, 400, 1.0, ""),
        # Stored as a square, shown as 16:9.
        (960, 960, 16 / 9, "832x480x81 416x240x81 832x480x33"),
    ],
)
def test_the_best_bucket_comes_first(width: int, height: int, aspect: float, order: str) -> None:
    found = " ".join(map(str, fitting(BUCKETS, width, height, aspect)))
    assert found == order
    assert " ".join(map(str, fitting(BUCKETS[::-1], width, height, aspect))) == order


def test_buckets_of_one_shape_crop_alike() -> None:
    """Of an anamorphic picture the shares differ in the last bit."""
    small, large = bucket("112x64x9"), bucket("560x320x5")
    assert kept(small, 720, 576, 40 / 33) < kept(large, 720, 576, 40 / 33)
    assert fitting([small, large], 720, 576, 40 / 33) == [small, large], "the longer one"


def test_what_is_kept_of_a_picture() -> None:
    assert kept(bucket("640x360x5"), 1280, 720) == 1
    assert kept(bucket("360x640x5"), 1280, 720) == pytest.approx((9 / 16) ** 2)
    assert kept(bucket("640x360x5"), 720, 720, 16 / 9) == pytest.approx(1)


@pytest.mark.parametrize(
    ("cut_to", "width", "height", "aspect", "found"),
    [
        # On its side, where that is nearly the shape.
        ("832x480x81", 720, 1280, 1.0, "480x832x81"),
        ("480x832x33", 1920, 1080, 1.0, "832x480x33"),
        # Else of the picture's own shape, of no more area, in steps of 16.
        ("480x832x81", 3840, 1600, 1.0, "976x400x81"),
        # Stored as 5:4, shown as 16:9.
        ("480x832x81", 720, 576, 64 / 45, "720x400x81"),
        # Not enlarged: the picture has no more pixels.
        ("1280x720x81", 480, 854, 1.0, "480x848x81"),
        ("832x480x81", 8, 900, 1.0, None),
    ],
)
def test_a_bucket_of_the_shape_of_a_clip(
    cut_to: str, width: int, height: int, aspect: float, found: str | None
) -> None:
    one = shaped(bucket(cut_to), width, height, aspect)
    assert (one and str(one)) == found
    if one is not None:
        assert fitting([one], width, height, aspect) == [one]
        assert kept(one, width, height, aspect) > 0.8


def encoded(name: str, cut: str) -> EncodedClip:
    entry = Entry(key="k", bytes=1, sha256="0" * 64)
    return EncodedClip(
        path=name, sha256="", prompt="", source="", split="HeldOut", bucket=bucket(cut),
        video=entry, text=entry, image=entry,
    )  # fmt: skip


def test_every_bucket_is_looked_at() -> None:
    cuts = ["832x480x81", "832x480x81", "480x832x81", "832x480x81", "480x832x81"]
    clips = [encoded(str(number), cut) for number, cut in enumerate(cuts)]
    assert [clip.path for clip in one_of_each_bucket(clips)] == ["0", "2", "1", "4", "3"]


def drawn(sampler: Sampler, batches: int) -> list[list[int]]:
    return [sampler.take() for _ in range(batches)]


MIXED = ["wide"] * 7 + ["tall"] * 4 + ["long"] * 2
"""With batches of three: one bucket that divides into none, one that is smaller than a batch."""


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_batch_is_full_and_of_one_bucket(size: int) -> None:
    for batch in drawn(Sampler(MIXED, 3, size), 100):
        assert len(batch) == size
        assert len({MIXED[index] for index in batch}) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_clip_is_seen_as_often_as_any_other(size: int) -> None:
    """Batches of `size` passes are whole in every bucket: each clip is in just so many."""
    seen = Counter(index for batch in drawn(Sampler(MIXED, 3, size), 13) for index in batch)
    assert seen == dict.fromkeys(range(13), size)
    ordered = [index for batch in drawn(Sampler(MIXED, 3, 1), 39) for index in batch]
    assert all(sorted(ordered[at : at + 13]) == list(range(13)) for at in (0, 13, 26))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_drawing_goes_on_from_any_batch(size: int) -> None:
    whole = drawn(Sampler(MIXED, 3, size), 40)
    for number in range(40):
        later = Sampler(MIXED, 3, size, position=number * size)
        assert drawn(later, 40 - number) == whole[number:]
    moved = Sampler(MIXED, 3, size)
    moved.position = 30 * size
    assert moved.take() == whole[30]
    moved.position = 0
    assert moved.take() == whole[0]


def test_one_bucket_is_cut_into_batches_in_the_order_of_its_clips() -> None:
    ordered = [index for batch in drawn(Sampler(["one"] * 7, 3, 1), 28) for index in batch]
    assert [index for batch in drawn(Sampler(["one"] * 7, 3, 4), 7) for index in batch] == ordered


def test_buckets_take_turns_within_a_pass() -> None:
    """None waits until another is through: what is learnt last is not of one shape."""
    many = MIXED * 8
    shapes = [many[batch[0]] for batch in drawn(Sampler(many, 5, 2), 52)]
    assert len(set(shapes[:13])) == len(set(shapes[-13:])) == 3
