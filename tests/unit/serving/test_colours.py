"""What Chromium shows of the videos and pictures that are handed out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colours import Picture, gradient, off, pictures, smooth, texture
from photos import DISPLAY_P3, encoded, rgb_profile
from screen import Screen
from unit.runtime.test_picture import EVERY_PNG
from wan_runtime.contract.service import Size
from wan_runtime.data.picture import cut, read
from wan_runtime.rendering.media import contact_sheet, write_mp4
from wan_runtime.serving.gateway.pictures import first_frame
from wan_runtime.serving.worker.output.deliver import TYPES
from wan_runtime.serving.worker.output.order import FILES, REVIEWED, SPRITESHEET, THUMBNAIL, Cut
from wan_runtime.serving.worker.output.write import spritesheet, write

pytest_plugins = ["screen_fixtures"]

MOST = 2.0
"""Of 255 levels, in the mean of a channel."""


def shown(screen: Screen, frames: list[Picture], folder: Path) -> list[Picture]:
    """The frames as the browser shows them, in a video of two frames a second."""
    path = folder / "video.mp4"
    write_mp4(np.stack(frames), path, 2)
    return screen.video(path.read_bytes(), [0.25 + index / 2 for index in range(len(frames))])


@pytest.mark.parametrize("size", [(1280, 720), (832, 480), (480, 832)])
def test_a_video_has_the_colours_that_were_rendered(
    size: tuple[int, int], screen: Screen, tmp_path: Path
) -> None:
    made = pictures(*size)
    seen = shown(screen, list(made.values()), tmp_path)
    differences = {kind: off(*pair) for kind, *pair in zip(made, made.values(), seen, strict=True)}
    assert max(differences.values()) <= MOST, differences


@pytest.mark.parametrize("size", [(128, 96), (96, 128)])
def test_so_has_a_small_one(size: tuple[int, int], screen: Screen, tmp_path: Path) -> None:
    """Away from edges, which are much of so small a picture: H.264 in browsers has half the
    colours' resolution."""
    made = pictures(*size)
    for kind, frame, seen in zip(
        made, made.values(), shown(screen, list(made.values()), tmp_path), strict=True
    ):
        flat = smooth(frame)[..., None]
        assert flat.mean() > 0.05, kind
        assert off(frame * flat, seen * flat) / flat.mean() <= MOST, kind
        assert np.abs(frame.mean((0, 1)) - seen.mean((0, 1))).max() <= MOST, kind


def test_so_have_the_pictures_beside_it(screen: Screen, tmp_path: Path) -> None:
    made = np.stack([gradient(832, 480), texture(832, 480)])
    np.save(tmp_path / "frames.npy", made)
    cut = Cut(
        frames=str(tmp_path / "frames.npy"), folder=str(tmp_path), fps=16, metadata={},
        visible_mark=False, reviewed=2,
    )  # fmt: skip
    write(cut)
    small = Image.fromarray(made[0]).resize((512, 295), Image.Resampling.LANCZOS)
    expected = {
        FILES[THUMBNAIL]: np.asarray(small),
        FILES[SPRITESHEET]: np.asarray(spritesheet(made)),
        REVIEWED.format(1): made[1],
    }
    for name, picture in expected.items():
        kind = TYPES[Path(name).suffix]
        assert off(picture, screen.picture(kind, (tmp_path / name).read_bytes())) <= MOST, name
    contact_sheet([("one", made)], tmp_path / "sheet.png")
    sheet = (tmp_path / "sheet.png").read_bytes()
    assert off(np.asarray(Image.open(io.BytesIO(sheet))), screen.picture("image/png", sheet)) == 0


@pytest.mark.parametrize("name", EVERY_PNG)
def test_a_photo_is_read_as_the_browser_shows_it(name: str, screen: Screen) -> None:
    data, _ = EVERY_PNG[name]
    assert off(np.asarray(read(data)), screen.picture("image/png", data)) < 0.1


def test_the_first_frame_looks_like_the_photo(screen: Screen, tmp_path: Path) -> None:
    """A phone's: Display P3, stored on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.rot90(gradient(1280, 720)))
    photo = encoded(
        stored, "JPEG", quality=95, subsampling=0, icc_profile=rgb_profile(DISPLAY_P3), exif=exif
    )
    size = Size(width=832, height=480)
    start = np.asarray(Image.open(io.BytesIO(first_frame(photo, size, 10**6))))
    (seen, _) = shown(screen, [start, start], tmp_path)
    photo_seen = Image.fromarray(screen.picture("image/jpeg", photo))
    assert photo_seen.size == (1280, 720)
    assert off(np.asarray(cut(photo_seen, 832, 480)), seen) <= MOST
