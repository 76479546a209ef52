"""What each profile's rounding does to a video: the trained Tiny models render the same orders with
each, and pictures are compared with those of Lossless.

    PYTHONPATH=runtime:tests python tests/gpu/quality.py --out rows.json

Exact against Lossless is the floor: two ways to round to bfloat16 that are equally near to float32.
Rows by rounding alone, and by leaving out steps alone, are in the planner's distances.json.
LPIPS is left out: no package has the weights of its network.
Runs on a CPU too, where all are in float32 and one kernel.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from renders import make_task, rendered
from wan_runtime.contract.sampling import (
    COMPUTED_SHARE,
    DEFAULT_STEP_CACHE,
    Profile,
    StepCachePolicy,
)
from wan_runtime.models import tiny
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit import float8_linear, trial
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.dit.transformer import Pass
from wan_runtime.models.layout import locate
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.render import Renderer

VIDEOS = 8
STEPS = 40
GUIDANCE = 5.0
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants of SSIM (Wang et al. 2004)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A profile, or a part of what it does."""

    name: str
    profile: Profile
    policy: StepCachePolicy = DEFAULT_STEP_CACHE
    without: tuple[AbstractContextManager[Any], ...] = ()


REFERENCE = Variant("Lossless", "Lossless")
EVERY_STEP = patch.dict(COMPUTED_SHARE, clear=True)
BFLOAT16 = patch.object(float8_linear, "PROFILES", ())
VARIANTS = (
    REFERENCE,
    Variant("Exact", "Exact"),
    Variant("Lossless, half of the steps", "Lossless",
            without=(patch.dict(COMPUTED_SHARE, {"Lossless": 0.5}),)),
    Variant("Balanced, every step", "Balanced", without=(EVERY_STEP,)),
    Variant("Balanced", "Balanced"),
    Variant("Fast, every step", "Fast", without=(EVERY_STEP,)),
    Variant("Fast, linear layers in bfloat16", "Fast", without=(BFLOAT16,)),
    Variant("Fast", "Fast"),
    Variant("Fast, EasyCache", "Fast", policy="EasyCache"),
    Variant("Fast, TeaCache", "Fast", policy="TeaCache"),
)  # fmt: skip

Frames = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=VIDEOS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trial.MARGIN = math.inf  # the last that a profile allows, which is no faster on few tokens
    rows = []
    for name in ("Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny"):
        fitted = PRESETS[name].teacache is not None
        made = {each.name: videos(name, each, options.videos, device)
                for each in VARIANTS if fitted or each.policy != "TeaCache"}  # fmt: skip
        reference = made.pop(REFERENCE.name)[1]
        for variant, (facts, found) in made.items():
            row = {"model": name, "profile": variant, **facts} | distance(found, reference)
            rows.append(row)
            print(json.dumps(row), flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


def videos(
    name: str, variant: Variant, count: int, device: torch.device
) -> tuple[dict[str, Any], list[Frames]]:
    """The kernels and the passes of a video, and frames [T, H, W, 3] of 256 levels for each
    seed."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for each in variant.without:
            stack.enter_context(each)
        float8_linear.worth_it.cache_clear()
        tiny.write(PRESETS[name], Path(folder, "model"))
        files = locate(PRESETS[name], Path(folder, "model"))
        model = Model(files, alone(), device, variant.profile, variant.policy)
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
            found.append(frames.astype(np.float64))
        return {"kernels": model.at_work._asdict(), "passes": passes / count}, found


def distance(found: list[Frames], wanted: list[Frames]) -> dict[str, float]:
    """PSNR in dB and SSIM of all frames but the first, which is the condition; the mean and the
    largest difference in levels; and flicker, the mean change between frames, as a ratio."""
    pairs = [(one[1:], other[1:]) for one, other in zip(found, wanted, strict=True)]
    errors = [float(np.mean((one - other) ** 2)) for one, other in pairs]
    psnr = [10 * np.log10(255**2 / error) if error else np.inf for error in errors]
    flicker = [np.abs(np.diff(one, axis=0)).mean() / np.abs(np.diff(other, axis=0)).mean()
               for one, other in pairs]  # fmt: skip
    return {
        "psnr": round(float(np.mean(psnr)), 2),
        "rms": round(float(np.mean(errors)) ** 0.5, 3),
        "ssim": round(float(np.mean([ssim(one, other) for one, other in pairs])), 5),
        "lowestPsnr": round(float(np.min(psnr)), 2),
        "meanLevels": round(float(np.mean([np.abs(a - b).mean() for a, b in pairs])), 3),
        "mostLevels": float(max(np.abs(a - b).max() for a, b in pairs)),
        "flicker": round(float(np.mean(flicker)), 4),
    }


def ssim(one: Frames, other: Frames) -> float:
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
