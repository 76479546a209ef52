"""Frame timing and cropping, over many rates and clocks."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

import pytest

from wan_runtime.data.frames import Displayed, crop_box, exact_rate, fits, resample

RATES = [Fraction(r) for r in (8, 12, 15, 16, 24, 25, 30, 48, 50, 60)] + [
    Fraction(24000, 1001),
    Fraction(30000, 1001),
    Fraction(60000, 1001),
]
CLOCKS = [Fraction(1, 1000), Fraction(1, 12800), Fraction(1, 90000), Fraction(1, 600)]


def clip(count: int, rate: Fraction, clock: Fraction | None = None) -> list[Displayed[int]]:
    """Frames numbered from 0, their times rounded to the container's clock."""

    def tick(time: Fraction) -> Fraction:
        return time if clock is None else round(time / clock) * clock

    return [
        Displayed(tick(n / rate), tick((n + 1) / rate) - tick(n / rate), n) for n in range(count)
    ]


def picked(count: int, source: Fraction, target: Fraction, clock: Fraction | None) -> list[int]:
    tolerance = min(clock, 1 / (4 * source)) if clock else Fraction(0)
    return list(resample(clip(count, source, clock), target, tolerance))


@pytest.mark.parametrize("clock", [None, *CLOCKS], ids=str)
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_at_its_own_rate_every_frame_stays(rate: Fraction, clock: Fraction | None) -> None:
    for count in (1, 17, 49, 81, 250):
        assert picked(count, rate, rate, clock) == list(range(count))


@pytest.mark.parametrize("clock", [None, *CLOCKS], ids=str)
@pytest.mark.parametrize("target", RATES, ids=str)
@pytest.mark.parametrize("source", RATES, ids=str)
def test_the_last_frame_at_or_before_each_moment(
    source: Fraction, target: Fraction, clock: Fraction | None
) -> None:
    count = 60
    got = picked(count, source, target, clock)
    # The definition, exactly: moment i shows frame floor(i/target * source) while that is < count.
    wanted = []
    while (frame := len(wanted) * source // target) < count:
        wanted.append(int(frame))
    if clock is None:
        assert got == wanted
    else:
        # Rounded clocks may shift a moment on the edge of two frames, never by more than one.
        assert abs(len(got) - len(wanted)) <= 1
        assert all(abs(a - b) <= 1 for a, b in zip(got, wanted, strict=False))
        if source % target == 0:
            assert got == wanted
    assert got == sorted(got)


def test_a_clock_as_coarse_as_the_frames_shifts_nothing() -> None:
    assert picked(50, Fraction(25), Fraction(25), Fraction(1, 25)) == list(range(50))


def test_duration_decides_how_many_there_are() -> None:
    # 5 s hold 80 moments at 16 fps, the last at 4.9375 s; the 81st is at 5 s, after the end.
    assert len(picked(150, Fraction(30), Fraction(16), Fraction(1, 1000))) == 80
    assert len(picked(151, Fraction(30), Fraction(16), Fraction(1, 1000))) == 81


def test_uneven_times_hold_the_frame_on_the_screen() -> None:
    times = [0, Fraction(1, 10), Fraction(1, 2), 1]
    shown = [Displayed(Fraction(time), Fraction(1, 10), n) for n, time in enumerate(times)]
    assert list(resample(shown, Fraction(10))) == [0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]


def test_a_clock_that_goes_back_is_not_followed() -> None:
    times = [0, 1, Fraction(1, 2), 1, 2]
    shown = [Displayed(Fraction(time), Fraction(1), n) for n, time in enumerate(times)]
    assert list(resample(shown, Fraction(1))) == [0, 3, 4]


def test_no_more_is_decoded_than_is_wanted() -> None:
    asked = []

    def source() -> object:
        for frame in clip(1000, Fraction(16)):
            asked.append(frame.frame)
            yield frame

    list(islice(resample(source(), Fraction(16)), 17))  # type: ignore[arg-type, var-annotated]
    assert asked[-1] == 17


def test_nothing_comes_of_nothing() -> None:
    assert list(resample([], Fraction(16))) == []


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (16.0, Fraction(16)),
        (23.976, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (24.0, Fraction(24)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_rates_are_exact(fps: float, rate: Fraction) -> None:
    assert exact_rate(fps) == rate


SIZES = [(640, 272), (1920, 1080), (1280, 720), (176, 144), (720, 1280), (333, 777), (128, 96)]


@pytest.mark.parametrize("target", [(128, 96), (832, 480), (96, 128), (1280, 720)])
@pytest.mark.parametrize("size", SIZES)
def test_the_crop_is_the_largest_centred_part_of_the_shape(
    size: tuple[int, int], target: tuple[int, int]
) -> None:
    left, top, right, bottom = box = crop_box(*size, *target)
    assert left >= 0
    assert top >= 0
    assert left == pytest.approx(size[0] - right)
    assert top == pytest.approx(size[1] - bottom)
    assert (right - left) / (bottom - top) == pytest.approx(target[0] / target[1])
    assert left == 0 or top == 0
    assert fits(box, *target) == (right - left >= target[0] - 0.01)


def test_equal_shapes_keep_every_pixel() -> None:
    assert crop_box(1920, 1080, 1280, 720) == (0, 0, 1920, 1080)
    assert fits(crop_box(128, 96, 128, 96), 128, 96)
    assert not fits(crop_box(127, 96, 128, 96), 128, 96)


def test_pixels_that_are_not_square_count_as_they_are_shown() -> None:
    # PAL widescreen: 720x576 stored, shown as 1024x576.
    assert crop_box(720, 576, 1024, 576, 64 / 45) == pytest.approx((0, 0, 720, 576))
