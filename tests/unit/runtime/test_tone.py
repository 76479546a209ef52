"""HDR and wide gamuts: by the standards, one colour at a time, and by another library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import coloured
from coloured import encode, still
from shown import by_ffmpeg, colours
from wan_runtime.data.clips import check_clip
from wan_runtime.data.tone import convert

SIZE = 128, 96


def pq(nits: float) -> float:
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels of a colour in cd/m2, of BT.2020, on a display of 1000."""
    luminance = (nits @ (0.2627, 0.6780, 0.0593) / 1000)[:, None]
    scene = nits / 1000 * luminance ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
"""Of linear BT.2020 (ITU-R BT.2087)."""
P3_TO_709 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
DIM = np.array([(5, 5, 5), (50, 50, 50), (90, 90, 90), (60, 40, 30), (20, 45, 30), (15, 20, 60)])
"""cd/m2 of BT.2020: what the curve leaves alone."""
WANTED = 255 * (DIM @ TO_709.T / 203) ** (1 / 2.4)
BRIGHT = {203: 230.3, 400: 250.0, 1000: 255.0, 4000: 255.0}
"""cd/m2 of white: level by the curve of BT.2390 from 1000 to 203, worked out by hand."""


def hdr(path: Path, levels: NDArray[np.float64], transfer: int, **tags: int) -> Path:
    frame = coloured.patches(255 * levels, "yuv444p10le", 9, full=False, size=(160, 96))
    return encode(path, still(frame), color_trc=transfer, **tags)


@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "transfer alone"])
def test_pq_is_tone_mapped(tmp_path: Path, tagged: bool) -> None:
    tags = {"colorspace": 9, "color_primaries": 9} if tagged else {}
    levels = np.vectorize(pq)(np.vstack([DIM, [[nits] * 3 for nits in BRIGHT]]))
    path = hdr(tmp_path / "clip.mkv", levels, 16, **tags)
    got = colours(path, 10, 160)
    assert np.abs(got[:6] - WANTED).max() <= 3
    assert np.abs(got[6:, 1] - list(BRIGHT.values())).max() <= 2
    assert check_clip(path, frames=5, fps=16, width=160, height=96).hdr == "PQ"


def test_hlg_is_tone_mapped(tmp_path: Path) -> None:
    levels = hlg(np.vstack([DIM, [[nits] * 3 for nits in (203, 400, 999, 1000)]]).astype(float))
    path = hdr(tmp_path / "clip.mkv", levels, 18, colorspace=9, color_primaries=9)
    got = colours(path, 10, 160)
    assert np.abs(got[:6] - WANTED).max() <= 3
    assert np.abs(got[6:9, 1] - (230.3, 250.0, 255.0)).max() <= 2
    assert check_clip(path, frames=5, fps=16, width=160, height=96).hdr == "HLG"


@pytest.mark.parametrize(("primaries", "to_709"), [(9, TO_709), (12, P3_TO_709)])
def test_wide_gamuts_are_converted(
    tmp_path: Path, primaries: int, to_709: NDArray[np.float64]
) -> None:
    rgb = np.array([(120, 110, 100), (60, 60, 60), (250, 250, 250), (200, 150, 130),
                    (90, 120, 100), (80, 90, 140), (0, 0, 0), (255, 255, 255)], float)  # fmt: skip
    frame = coloured.patches(rgb, "yuv444p10le", 9, full=False, size=SIZE)
    path = encode(tmp_path / "clip.mkv", still(frame), colorspace=9, color_primaries=primaries,
                  color_trc=1)  # fmt: skip
    wanted = 255 * np.clip((rgb / 255) ** 2.4 @ to_709.T, 0, 1) ** (1 / 2.4)
    assert np.abs(colours(path) - wanted).max() <= 2
    assert check_clip(path, frames=5, fps=16, width=128, height=96).hdr == ""


def test_the_purest_colours_of_hdr_are_cut_off_at_those_of_bt709() -> None:
    """The numbers of docs/datasets.md, by the matrix of BT.2087: less than nothing is nothing."""
    levels = np.vectorize(pq)(203 * np.eye(3))
    got = np.round(255 * convert(levels, "PQ", "BT.2020"))
    assert got.tolist() == [[255, 0, 0], [0, 243, 0], [0, 0, 241]]
    # Without the tone-mapping, which takes 203 cd/m2 down to 230 of 255 levels.
    plain = 255 * np.clip(TO_709.T, 0, 1) ** (1 / 2.4)
    assert (got <= np.ceil(plain)).all()


def test_hdr_is_that_of_another_library(tmp_path: Path) -> None:
    # zimg, in the program; where the curve begins it ends.
    levels = np.vectorize(pq)(np.vstack([DIM, DIM * 0.9, DIM[:3] * 0.5]))[:10]
    path = hdr(tmp_path / "clip.mkv", levels, 16, colorspace=9, color_primaries=9)
    filters = ("zscale=t=linear:npl=203", "format=gbrpf32le", "zscale=p=bt709", "zscale=t=bt709")
    theirs = coloured.centres(by_ffmpeg(path, 160, 96, *filters), 10)
    assert np.abs(colours(path, 10, 160) - theirs).max() <= 4
