"""What clips look like: real clips, and the same clips spoiled in a known way."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import videos
from wan_runtime.data import quality
from wan_runtime.data.clips import check_clip
from wan_runtime.data.window import starts_of

Frames = NDArray[np.uint8]


def stills(path: Path, frames: int = 17, fps: float = 16, start: int = 0) -> quality.Stills:
    facts = check_clip(path, frames=start + frames, fps=fps, width=128, height=96)
    return facts.window(0, start + frames)[start:]


def encoded(path: Path, images: list[Frames]) -> quality.Stills:
    videos.write(path, iter(images))
    return stills(path, len(images))


@pytest.mark.parametrize(
    ("name", "frames", "fps", "cuts"),
    [
        ("bikes", 250, 25, [30, 76, 137, 187, 242]),  # where its scenes change
        ("bikes", 160, 16, [20, 49, 88, 120, 155]),
        ("bikes", 300, 30, [36, 92, 165, 225, 291]),  # every sixth frame is shown twice
        ("bikes", 500, 50, [60, 152, 274, 374, 484]),  # every frame is
        ("bigbuckbunny", 132, 25, []),
        ("carphone_pristine", 119, 30, []),
    ],
)
def test_cuts_are_found_and_motion_is_none(
    name: str, frames: int, fps: float, cuts: list[int]
) -> None:
    path = videos.original(name)
    found = check_clip(path, frames=frames, fps=fps, width=128, height=48)
    got = quality.cuts(found.window(0, frames))
    assert len(got) == len(cuts)
    assert all(abs(a - b) <= 1 for a, b in zip(got, cuts, strict=True)), got


def test_a_still_hardly_drifts(tmp_path: Path) -> None:
    image = videos.pixels("bikes")[5]
    noise = np.random.default_rng(0)

    def noisy() -> Frames:
        return np.clip(image + noise.normal(0, 6, image.shape), 0, 255).astype(np.uint8)

    def zoomed(number: int) -> Frames:
        picture = Image.fromarray(image)
        edge = 0.002 * number * np.array(picture.size)
        box = (*(edge / 2), *(picture.size - edge / 2))
        return np.asarray(picture.resize(picture.size, Image.Resampling.BICUBIC, box=box))

    assert quality.drift(encoded(tmp_path / "still.mp4", [image] * 17)) < 0.5
    assert quality.drift(encoded(tmp_path / "noisy.mp4", [noisy() for _ in range(17)])) < 2
    moving = encoded(tmp_path / "zoom.mp4", [zoomed(number) for number in range(17)])
    assert quality.drift(moving) > quality.STILL_LEVELS
    for name in ("bikes", "bigbuckbunny", "carphone_pristine"):
        assert quality.drift(stills(videos.original(name))) > 5


@pytest.mark.parametrize(
    ("pad", "found"),
    [
        (((60, 60), (0, 0)), "letterbox"),
        (((0, 0), (80, 80)), "pillarbox"),
        (((120, 0), (0, 0)), ""),  # on one side: a dark floor, say
        (((0, 0), (0, 0)), ""),
    ],
)
def test_bars(tmp_path: Path, pad: tuple[tuple[int, int], ...], found: str) -> None:
    images = [np.pad(image, (*pad, (0, 0))) for image in videos.pixels("bikes")[:17]]
    videos.write(tmp_path / "clip.mp4", iter(images))
    height, width = images[0].shape[:2]
    facts = check_clip(
        tmp_path / "clip.mp4", frames=17, fps=16, width=width // 32 * 16, height=height // 32 * 16
    )
    assert quality.bars(facts.window(0, 17)) == found


def test_bars_that_the_crop_takes_away_are_none(tmp_path: Path) -> None:
    images = [np.pad(image, ((0, 0), (80, 80), (0, 0))) for image in videos.pixels("bikes")[:17]]
    assert quality.bars(encoded(tmp_path / "clip.mp4", images)) == ""


def test_a_dark_scene_has_no_bars() -> None:
    dark = (stills(videos.original("bikes")) * 0.1).astype(np.uint8)
    dark[:, :20] = dark[:, -20:] = 0
    assert quality.bars(dark) == ""


COPIES: dict[str, Callable[[Frames], Frames]] = {
    "smaller": lambda image: np.asarray(Image.fromarray(image).resize((320, 136))),
    "brighter": lambda image: np.clip(image * 1.1 + 8, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_twins(tmp_path: Path, copy: str) -> None:
    images = [COPIES[copy](image) for image in videos.pixels("bikes")[:17]]
    prints = [quality.fingerprint(stills(videos.cut(tmp_path / "a.mp4")))]
    prints.append(quality.fingerprint(encoded(tmp_path / "b.mp4", images)))
    assert list(quality.twins(prints)) == [(0, 1)]


def test_a_distorted_copy_is_a_twin() -> None:
    names = ("carphone_pristine", "bigbuckbunny", "carphone_distorted")
    prints = [quality.fingerprint(stills(videos.original(name))) for name in names]
    assert list(quality.twins(prints)) == [(0, 2)]


def test_other_shots_are_no_twins() -> None:
    path = videos.original("bikes")
    shots = [stills(path, 17, 25, start) for start in (0, 40, 100, 150, 200)]
    assert list(quality.twins([quality.fingerprint(shot) for shot in shots])) == []


def test_a_flat_picture_is_nobodys_twin() -> None:
    flat = np.full((17, 96, 128, 3), 200, np.uint8)
    prints = [quality.fingerprint(flat), quality.fingerprint(flat)]
    assert [len(each) for each in prints] == [0, 0]
    assert list(quality.twins(prints)) == []


def test_a_thumbnail_is_small_and_shows_three_frames() -> None:
    data = quality.thumbnail(stills(videos.original("bikes"), 81))
    assert len(data) < 10_000
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (336, 84)
    parts = np.split(np.asarray(picture.convert("RGB")).astype(int), 3, axis=1)
    assert np.abs(parts[0] - parts[2]).mean() > 10


@pytest.mark.parametrize(
    ("kind", "count", "total", "starts"),
    [
        ("First", 1, 100, (0,)),
        ("First", 1, 17, (0,)),
        ("Middle", 1, 18, (0,)),
        ("Middle", 1, 100, (41,)),
        ("Spread", 2, 100, (0, 83)),
        ("Spread", 3, 100, (0, 42, 83)),
        ("Spread", 4, 17, (0,)),
        ("Spread", 4, 24, (0,)),  # seven frames more: another window would be much the same
        ("Spread", 4, 25, (0, 8)),
        ("Spread", 4, 33, (0, 8, 16)),
        ("Spread", 4, 1000, (0, 328, 655, 983)),
    ],
)
def test_windows(kind: str, count: int, total: int, starts: tuple[int, ...]) -> None:
    assert starts_of(kind, count, total=total, frames=17) == starts  # type: ignore[arg-type]
