"""Error and structural similarity of pictures, beside independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import videos
from scored_clips import Picture, noisy
from wan_runtime.evaluation.metrics.similarity import (
    MARGIN,
    decibels,
    ms_ssim,
    squared_error,
    ssim,
)

# peak_signal_noise_ratio(data_range=255) over frames 1 to 8, and the mean of structural_similarity
# (gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2) of
# the same, by scikit-image 0.26.0: of 9 frames beside the same with noise, and beside their
# successors.
SCIKIT_IMAGE = {
    "bikes": (33.37023012108936, 0.7055531677568234, 0.9495507908422847),
    "carphone_pristine": (33.435399213785466, 0.8647311174190218, 0.8928343964305369),
}
# ms_ssim(data_range=255) of pytorch-msssim 1.0.0, of the first frames.
PYTORCH_MSSSIM = [0.9515383839607239, 0.951411247253418, 0.9514182209968567, 0.9513787627220154]


def pair(name: str) -> tuple[list[Picture], list[Picture]]:
    clean = [*videos.pixels(name, 9)]
    return noisy(clean), clean


def mean_ssim(ones: list[Picture], others: list[Picture]) -> float:
    values = [ssim(*each, number % 2) for number, each in enumerate(zip(ones, others, strict=True))]
    return float(np.mean(values[1:]))


@pytest.mark.parametrize("name", SCIKIT_IMAGE)
def test_values_are_those_of_scikit_image(name: str) -> None:
    one, other = pair(name)
    psnr, similar, following = SCIKIT_IMAGE[name]
    error = sum(map(squared_error, one[1:], other[1:])) / (8 * one[0].size)
    assert decibels(error) == pytest.approx(psnr, abs=1e-6)
    assert mean_ssim(one, other) == pytest.approx(similar, abs=2e-4)
    assert mean_ssim(other[:-1], other[1:]) == pytest.approx(following, abs=2e-4)


def test_multi_scale_values_are_those_of_pytorch_msssim() -> None:
    one, other = pair("bikes")
    found = [ms_ssim(*each) for each in zip(one[:4], other[:4], strict=True)]
    assert found == pytest.approx(PYTORCH_MSSSIM, abs=1e-4)


def by_formula(one: Picture, other: Picture, odd: int) -> float:
    """Window by window, in 64 bits (Wang et al. 2004)."""
    distances = np.arange(-5, 6) ** 2 / 4.5
    window = np.exp(-(distances[:, None] + distances[None]))
    window /= window.sum()

    def averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = np.lib.stride_tricks.sliding_window_view(values, (11, 11))[odd::2]
        found: NDArray[np.float64] = np.einsum("hwij,ij->hw", seen, window)
        return found

    x, y = one.astype(np.float64), other.astype(np.float64)
    mx, my = averaged(x), averaged(y)
    vx, vy, cov = averaged(x * x) - mx**2, averaged(y * y) - my**2, averaged(x * y) - mx * my
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * mx * my + first) * (2 * cov + second)
    return float((similar / ((mx**2 + my**2 + first) * (vx + vy + second))).mean())


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("size", [(12, 40), (61, 13), (97, 128), (90, 64)])
def test_every_window_is_that_of_the_formula(size: tuple[int, int], odd: int) -> None:
    """Sizes that the blocks of rows do not divide."""
    pictures = videos.pixels("bikes")
    one, other = (pictures[number][: size[0], : size[1], 1] for number in (0, 5))
    assert ssim(one, other, odd) == pytest.approx(by_formula(one, other, odd), abs=1e-6)


def test_the_smallest_picture_is_one_window() -> None:
    one, other = (
        videos.pixels("bikes")[number][: MARGIN + 1, : MARGIN + 1, 0] for number in (0, 5)
    )
    assert ssim(one, other) == pytest.approx(by_formula(one, other, 0), abs=1e-6)
    assert ssim(one, other, 1) == ssim(one, other), "there is no other row"


def test_wide_pictures_are_averaged_in_parts() -> None:
    """Products of matrices are cut at 1280 samples."""
    pictures = videos.pixels("bigbuckbunny")
    one, other = (pictures[number][300:340, :1270, :2] for number in (0, 9))
    wide = ssim(one, other)
    parts = [by_formula(one[..., c], other[..., c], 0) for c in range(2)]
    assert wide == pytest.approx(np.mean(parts), abs=1e-5)


def test_what_is_equal_is_capped_and_what_is_opposite_is_negative() -> None:
    picture = videos.pixels("bikes")[0]
    assert decibels(squared_error(picture, picture)) == 100
    assert decibels(1e-12) == 100
    assert ssim(picture, picture) == 1
    assert ms_ssim(picture, picture) == 1
    board = ((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)
    assert ssim(board, 255 - board) < -0.99
    large = np.kron(board, np.ones((4, 4), np.uint8))
    assert ms_ssim(large, 255 - large) == 0, "a negative number has no root"


def test_errors_do_not_wrap_around() -> None:
    dark, light = np.zeros((720, 1280, 3), np.uint8), np.full((720, 1280, 3), 255, np.uint8)
    assert squared_error(dark, light) == 255**2 * dark.size
    assert decibels(squared_error(dark, light) / dark.size) == 0
