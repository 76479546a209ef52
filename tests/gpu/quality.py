"""What each profile's rounding does to a video: the trained Tiny models render the same orders with
each, and pictures are compared with those of Lossless.

    PYTHONPATH=runtime:tests python tests/gpu/quality.py --out rows.json

Exact against Lossless is the floor: two ways to round to bfloat16 that are equally near to float32.
Rows have the fields of those in the planner's distances.json. On a GPU, rows without a step cache
are by rounding alone, the others by both causes at once; on a CPU, where all profiles are in
float32 and one kernel, the others are by leaving out steps alone.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from renders import make_task, rendered
from wan_runtime.contract.sampling import (
    COMPUTED_SHARE,
    DEFAULT_STEP_CACHE,
    Profile,
    StepCachePolicy,
)
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.vmaf import Vmaf
from wan_runtime.models import tiny
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit import float8_linear, trial
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.dit.transformer import Pass
from wan_runtime.models.layout import locate
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.render import Renderer

MODELS = ("Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny")
VIDEOS = 8
STEPS = 40
GUIDANCE = 5.0
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants of SSIM (Wang et al. 2004)."""
C3 = 170.0
"""Constant of GMSD (Xue et al. 2014)."""
FPS = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """A profile, or a part of what it does."""

    profile: Profile
    step_cache: StepCachePolicy | None = None
    """None: every step is computed."""
    float8_linears: bool = True
    """Whether Fast computes its linear layers in 8 bits."""

    @property
    def name(self) -> str:
        """As tables have it."""
        linears = "" if self.float8_linears else ", linear layers in bfloat16"
        return f"{self.profile}, {self.step_cache or 'every step'}{linears}"


REFERENCE = Variant("Lossless")
VARIANTS = (
    Variant("Exact"),
    Variant("Balanced", "Spaced"),
    Variant("Fast", "Spaced"),
    Variant("Balanced"),
    Variant("Fast"),
    Variant("Fast", "EasyCache"),
    Variant("Fast", "TeaCache"),
    Variant("Fast", float8_linears=False),
)

Frames = NDArray[np.uint8]
"""[T, H, W, 3]"""
Edges = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=VIDEOS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trial.MARGIN = math.inf  # the last that a profile allows, which is no faster on few tokens
    rows = []
    for name in options.models:
        fitted = PRESETS[name].teacache is not None
        _, reference = videos(name, REFERENCE, options.videos, device)
        for each in VARIANTS:
            if each.step_cache == "TeaCache" and not fitted:
                continue
            if each.step_cache is None and device.type == "cpu":  # Lossless' pictures, there
                continue
            facts, found = videos(name, each, options.videos, device)
            stated = {"model": name, "profile": each.profile, "stepCache": each.step_cache}
            rows.append(stated | {"variant": each.name} | facts | distance(found, reference))
            print(json.dumps(rows[-1]), flush=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


def videos(
    name: str, variant: Variant, count: int, device: torch.device
) -> tuple[dict[str, Any], list[Frames]]:
    """The kernels and the passes of a video, and frames [T, H, W, 3] of 256 levels for each
    seed."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if variant.step_cache is None:
            stack.enter_context(patch.dict(COMPUTED_SHARE, clear=True))
        if not variant.float8_linears:
            stack.enter_context(patch.object(float8_linear, "PROFILES", ()))
        float8_linear.worth_it.cache_clear()
        tiny.write(PRESETS[name], Path(folder, "model"))
        files = locate(PRESETS[name], Path(folder, "model"))
        policy = variant.step_cache or DEFAULT_STEP_CACHE
        model = Model(files, alone(), device, variant.profile, policy)
        renderer = Renderer(model, AdapterCache(2**30, model.dtype))
        settings = {"steps": STEPS, "guidance": GUIDANCE, "guidance_low": GUIDANCE}
        found, passes = [], 0
        velocity = Pass.velocity

        def counted(*inputs: Any) -> torch.Tensor:
            nonlocal passes
            passes += 1
            return velocity(*inputs)

        stack.enter_context(patch.object(Pass, "velocity", counted))
        for seed in range(count):
            task = make_task(Path(folder), seed=seed, profile=variant.profile, **settings)
            frames = rendered(renderer, task).frames
            assert frames is not None
            found.append(frames)
        return {"kernels": model.at_work._asdict(), "passes": passes / count}, found


def distance(found: list[Frames], wanted: list[Frames]) -> dict[str, float]:
    """PSNR in dB, SSIM, VMAF and GMSD of all frames but the first, which is the condition; the mean
    and the largest difference in levels; and flicker, the mean change between frames, as a
    ratio."""
    both = list(zip(found, wanted, strict=True))
    pairs = [(one[1:].astype(np.float64), other[1:].astype(np.float64)) for one, other in both]
    errors = [float(np.mean((one - other) ** 2)) for one, other in pairs]
    psnr = [10 * np.log10(255**2 / error) if error else np.inf for error in errors]
    flicker = [np.abs(np.diff(one, axis=0)).mean() / np.abs(np.diff(other, axis=0)).mean()
               for one, other in pairs]  # fmt: skip
    return {
        "psnr": round(float(np.mean(psnr)), 2),
        "rms": round(float(np.mean(errors)) ** 0.5, 3),
        "ssim": round(float(np.mean([ssim(one, other) for one, other in pairs])), 5),
        "vmaf": round(float(np.mean([vmaf(one, other) for one, other in both])), 2),
        "gmsd": round(float(np.mean([gmsd(one[1:], other[1:]) for one, other in both])), 5),
        "lowestPsnr": round(float(np.min(psnr)), 2),
        "meanLevels": round(float(np.mean([np.abs(a - b).mean() for a, b in pairs])), 3),
        "mostLevels": float(max(np.abs(a - b).max() for a, b in pairs)),
        "flicker": round(float(np.mean(flicker)), 4),
    }


def vmaf(one: Frames, other: Frames) -> float:
    """VMAF of two videos, without their first frame."""
    scorer = Vmaf()
    for index, (picture, reference) in enumerate(zip(one, other, strict=True)):
        scorer.add(Pair(index, Frame(picture), Frame(reference), start=None, fps=FPS))
    return scorer.value()


def gmsd(one: Frames, other: Frames) -> float:
    """Gradient magnitude similarity deviation (Xue et al. 2014) of frames, mean of all; 0: none.

    How unevenly edges are kept: the standard deviation over the picture of 1 where the luma's
    gradients are as steep, less where they are not. Of half the size, by means of 2x2 pixels,
    without the border, where a gradient has no neighbour."""
    return float(np.mean([_deviation(a, b) for a, b in zip(one, other, strict=True)]))


def _deviation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    a, b = _steepness(one), _steepness(other)
    return float(((2 * a * b + C3) / (a * a + b * b + C3)).std())


def _steepness(picture: NDArray[np.uint8]) -> Edges:
    """[H / 2 - 2, W / 2 - 2]: magnitudes of the luma's gradients by Prewitt's filter."""
    luma = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY)
    half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    across = np.array([[1, 0, -1]] * 3, np.float32) / 3
    found = np.hypot(*(cv2.filter2D(half, cv2.CV_32F, each) for each in (across, across.T)))
    return np.asarray(found[1:-1, 1:-1], np.float32)


def ssim(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """SSIM (Wang et al. 2004) of frames [T, H, W, 3] of 256 levels, mean of all channels: Gaussian
    windows of 11 pixels and sigma 1.5, wholly inside the picture."""
    taps = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    window = (taps[:, None] * taps / taps.sum() ** 2)[None, None]

    def blurred(x: Tensor) -> Tensor:
        return F.conv2d(x, window)

    a, b = (torch.from_numpy(each).permute(0, 3, 1, 2).flatten(0, 1)[:, None]
            for each in (one, other))  # fmt: skip
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    both = blurred(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + C1) * (2 * both + C2)
    return float((likeness / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))).mean())


if __name__ == "__main__":
    main()
