"""What each profile's rounding does to a video: the trained Tiny models render the same orders with
each, and pictures are compared with those of Lossless.

    PYTHONPATH=runtime:tests python tests/gpu/quality.py --out rows.json

Exact against Lossless is the floor: two ways to round to bfloat16 that are equally near to float32.
Runs on a CPU too, where all are in float32 and one kernel.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from renders import make_task, rendered
from wan_runtime.contract.service import Profile
from wan_runtime.models import tiny
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit import kernels
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.dit.transformer import Pass
from wan_runtime.models.layout import locate
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.render import Renderer

VIDEOS = 8
STEPS = 40
GUIDANCE = 5.0
REFERENCE: Profile = "Lossless"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=VIDEOS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kernels.MARGIN = math.inf  # the last that a profile allows, which is no faster on few tokens
    rows = []
    for name in ("Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny"):
        made = {profile: videos(name, profile, options.videos, device)
                for profile in get_args(Profile)}  # fmt: skip
        for profile, (facts, found) in made.items():
            if profile != REFERENCE:
                row = {"model": name, "profile": profile, **facts}
                rows.append(row | distance(found, made[REFERENCE][1]))
                print(json.dumps(rows[-1]), flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


def videos(
    name: str, profile: Profile, count: int, device: torch.device
) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
    """The kernel of the attentions and the passes of a video, and frames [T, H, W, 3] of 256 levels
    for each seed."""
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(PRESETS[name], Path(folder, "model"))
        files = locate(PRESETS[name], Path(folder, "model"))
        model = Model(files, alone(), device, profile)
        renderer = Renderer(model, AdapterCache(2**30, model.dtype))
        settings = {"steps": STEPS, "guidance": GUIDANCE, "guidance_low": GUIDANCE}
        found, passes = [], 0
        velocity = Pass.velocity

        def counted(*inputs: Any) -> torch.Tensor:
            nonlocal passes
            passes += 1
            return velocity(*inputs)

        Pass.velocity = counted  # type: ignore[method-assign]
        for seed in range(count):
            frames = rendered(renderer, make_task(Path(folder), seed=seed, **settings)).frames
            assert frames is not None
            found.append(frames.astype(np.float64))
        Pass.velocity = velocity  # type: ignore[method-assign]
        return {"kernel": model.kernel, "passes": passes / count}, found


def distance(
    found: list[np.ndarray[Any, Any]], wanted: list[np.ndarray[Any, Any]]
) -> dict[str, float]:
    """PSNR in dB of all frames but the first, which is the condition; the mean and the largest
    difference in levels; and flicker, the mean change between frames, as a ratio."""
    pairs = [(one[1:], other[1:]) for one, other in zip(found, wanted, strict=True)]
    errors = [float(np.mean((one - other) ** 2)) for one, other in pairs]
    psnr = [10 * np.log10(255**2 / error) if error else np.inf for error in errors]
    flicker = [np.abs(np.diff(one, axis=0)).mean() / np.abs(np.diff(other, axis=0)).mean()
               for one, other in pairs]  # fmt: skip
    return {
        "psnr": round(float(np.mean(psnr)), 2),
        "lowestPsnr": round(float(np.min(psnr)), 2),
        "meanLevels": round(float(np.mean([np.abs(a - b).mean() for a, b in pairs])), 3),
        "mostLevels": float(max(np.abs(a - b).max() for a, b in pairs)),
        "flicker": round(float(np.mean(flicker)), 4),
    }


if __name__ == "__main__":
    main()
