"""Motion, camera, colours and flicker of clips whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import videos
from scored_clips import Picture, film, noisy, panned
from wan_runtime.contract.clip_scores import Unscored
from wan_runtime.evaluation.metrics.appearance import ColourShift, Flicker, IdentityDrift, Sharpness
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.motion import CameraAgreement, MotionRatio, WarpingError
from wan_runtime.evaluation.metrics.scorer import Scorer
from wan_runtime.evaluation.metrics.unscored import NoScore

STILL = panned(1, (0, 0)) * 8


def value(scorer: Scorer, candidate: Sequence[Picture], reference: Sequence[Picture] | None = None,
          first: Picture | None = None) -> float:  # fmt: skip
    one: Frame | None = None
    other: Frame | None = None
    start = None if first is None else Frame(first)
    for index, picture in enumerate(candidate):
        one = Frame(picture, one)
        other = None if reference is None else Frame(reference[index], other)
        scorer.add(Pair(index, one, other, start, 16))
    return scorer.value()


def refused(scorer: Scorer, *clips: Sequence[Picture]) -> Unscored:
    with pytest.raises(NoScore) as caught:
        value(scorer, *clips)
    assert caught.value.message
    return caught.value.reason


def zoomed(count: int, step: float) -> list[Picture]:
    from PIL import Image

    picture = Image.fromarray(videos.pixels("bigbuckbunny")[20])
    clip = []
    for number in range(count):
        half = 300 / (1 + step) ** number
        box = (640 - half, 360 - half * 0.75, 640 + half, 360 + half * 0.75)
        clip.append(np.asarray(picture.resize((192, 144), Image.Resampling.LANCZOS, box=box)))
    return clip


def test_half_the_motion_is_half() -> None:
    fast, slow = panned(8, (0, 4)), panned(8, (0, 2))
    assert value(MotionRatio(), slow, fast) == pytest.approx(0.5, abs=0.03)
    assert value(MotionRatio(), fast, fast) == 1
    assert value(MotionRatio(), STILL, fast) < 0.02


def test_a_leap_from_the_first_frame_is_no_motion() -> None:
    """The first frame is the condition: what comes of it is first_frame_fidelity's."""
    leaping = [videos.pixels("bikes")[0][:144, :192], *panned(7, (0, 2))]
    even = panned(8, (0, 2))
    assert value(MotionRatio(), leaping, even) == pytest.approx(1, abs=0.03)


def test_nothing_is_divided_by_no_motion() -> None:
    assert refused(MotionRatio(), panned(8, (0, 2)), STILL) == "StillReference"
    assert refused(MotionRatio(), STILL[:2], STILL[:2]) == "TooShort"
    assert refused(MotionRatio(), STILL) == "NoReference"


def test_the_camera_agrees_as_far_as_it_moves_alike() -> None:
    right, left, down = panned(8, (0, 3)), panned(8, (0, -3)), panned(8, (3, 0))
    assert value(CameraAgreement(), right, right) == 1
    assert value(CameraAgreement(), right, noisy(right, 4)) > 0.9
    assert value(CameraAgreement(), right, left) < 0.05
    assert value(CameraAgreement(), right, STILL) < 0.05
    assert value(CameraAgreement(), right, panned(8, (0, 6))) == pytest.approx(2 / 3, abs=0.05)
    assert 0.2 < value(CameraAgreement(), right, down) < 0.4
    assert value(CameraAgreement(), STILL, STILL) == 1
    assert value(CameraAgreement(), zoomed(8, 0.02), zoomed(8, 0.02)) == 1
    assert value(CameraAgreement(), zoomed(8, 0.02), zoomed(8, -0.02)) < 0.1


def test_a_camera_that_cannot_be_followed_has_no_agreement() -> None:
    chaos = [*np.random.default_rng(0).integers(0, 256, (6, 96, 128, 3), dtype=np.uint8)]
    assert refused(CameraAgreement(), chaos, chaos) == "NoCameraTrack"
    assert refused(CameraAgreement(), STILL[:2], STILL[:2]) == "TooShort"


def test_warping_forgives_motion_and_not_noise() -> None:
    steady = value(WarpingError(), panned(8, (1, 3)))
    assert steady < 2e-4
    assert value(WarpingError(), STILL) == 0
    # Noise of -9 to 9 levels in both frames: twice its variance of 30, in squared units of 1.
    wavering = [noisy([each], seed=number)[0] for number, each in enumerate(panned(8, (1, 3)))]
    assert value(WarpingError(), wavering) == pytest.approx(2 * 30 / 255**2, rel=0.4)


def test_flicker_is_what_wavers_and_no_steady_change() -> None:
    def grey(levels: Sequence[int]) -> list[Picture]:
        return [np.full((64, 64, 3), level, np.uint8) for level in levels]

    assert value(Flicker(), grey([200, 60, 70, 80, 90, 100])) == 0
    assert value(Flicker(), grey([0, 100, 110, 100, 110, 100])) == pytest.approx(10)
    # Noise within a block of 256 pixels is no flicker of it.
    assert value(Flicker(), [noisy(grey([100]), seed=n)[0] for n in range(6)]) < 0.5
    assert refused(Flicker(), grey([1, 2, 3])) == "TooShort"


def test_colours_are_compared_with_the_start() -> None:
    clip = film(9)
    assert value(ColourShift(), clip[:1] * 9, first=clip[0]) == 0
    grey = [np.full((32, 32, 3), level, np.uint8) for level in (100, 119)]
    # L* of 42.37 and 50.03, by the formulas of CIE 1976 and sRGB; OpenCV reads them from tables.
    assert value(ColourShift(), [grey[0], grey[1], grey[1]], first=grey[0]) == pytest.approx(
        7.66, abs=0.05
    )
    tinted = [np.clip(each * np.array([1, 0.9, 0.8]), 0, 255).astype(np.uint8) for each in clip]
    assert value(ColourShift(), tinted, first=clip[0]) > 3
    assert refused(ColourShift(), clip) == "NoFirstFrame"


def test_identity_drifts_as_the_last_quarter_does() -> None:
    clip = film(9)
    other = [videos.pixels("bigbuckbunny")[0][300:396, 500:628]] * 2
    assert value(IdentityDrift(), clip[:1] * 9, first=clip[0]) == pytest.approx(0, abs=1e-3)
    late = value(IdentityDrift(), clip[:7] + other, first=clip[0])
    early = value(IdentityDrift(), clip[:1] + other + clip[:1] * 6, first=clip[0])
    assert late > 0.5
    assert early == pytest.approx(0, abs=1e-3), "it came back"
    red, blue = (np.zeros((32, 32, 3), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 255, 255
    assert value(IdentityDrift(), [red, blue, blue], first=red) == 1


def test_sharpness_is_the_detail_of_the_start() -> None:
    import cv2

    clip = film(5)
    assert value(Sharpness(), clip[:1] * 5, first=clip[0]) == 1
    blurred = [cv2.GaussianBlur(each, (0, 0), 1.5) for each in clip]
    assert value(Sharpness(), blurred, first=clip[0]) < 0.3
    assert value(Sharpness(), noisy(clip), first=clip[0]) > 1.2
