"""A video in Wan2.1-I2V-14B's shapes, 1280x720 x 81 frames, on one GPU, from an order to its mp4:
seconds of each stage and memory of the profiles, side by side.

    PYTHONPATH=runtime:tests python tests/gpu/clip_14b.py --steps 2 --out rows.json

The parts of a worker in one process, without its queue, store and network. Weights are random and
never touch a disk, so that the video is noise; CLIP is the Tiny models'. Of a few steps the last
one counts: the first one chooses kernels. `--small` is the dry run, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import WanVideoVAE
from PIL import Image
from torch import nn

from gpu.forward_14b import LARGE, draw
from renders import make_order
from wan_runtime.contract.service import Profile, Size
from wan_runtime.models import load, tiny
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.layout import locate
from wan_runtime.presets import PRESETS
from wan_runtime.rendering import model as models
from wan_runtime.rendering.media import Frames, write_mp4
from wan_runtime.rendering.order import Stage
from wan_runtime.rendering.render import Renderer

PROFILES: tuple[Profile, ...] = ("Lossless", "Balanced", "Fast")
LARGE_PRESET, SMALL_PRESET = PRESETS["Wan2.1-I2V-14B-720P"], PRESETS["Wan2.1-I2V-Tiny"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--profiles", nargs="+", default=PROFILES, choices=PROFILES)
    parser.add_argument("--small", action="store_true", help="the Tiny model, on a CPU")
    options = parser.parse_args()
    device = torch.device("cpu" if options.small else "cuda")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        renderer = Renderer(opened(folder, device, small=options.small), AdapterCache(2**30,
                            torch.bfloat16))  # fmt: skip
        for profile in options.profiles:
            facts, frames = made(renderer, folder, profile, options.steps)
            rows.append({"profile": profile} | facts)
            print(json.dumps(rows[-1]), flush=True)
        began = time.monotonic()
        write_mp4(frames, folder / "video.mp4", renderer.model.preset.fps)
        rows.append({"mp4Seconds": round(time.monotonic() - began, 1)})
        rows[-1]["bytes"] = (folder / "video.mp4").stat().st_size
        print(json.dumps(rows[-1]), flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


def opened(folder: Path, device: torch.device, *, small: bool) -> models.Model:
    """A model whose parts are drawn, not read."""
    tiny.write(SMALL_PRESET, folder / "model")
    files = locate(SMALL_PRESET, folder / "model")
    if small:
        return models.Model(files, alone(), device)
    read = load._load

    def part(files: Any, paths: Any, name: str, dtype: torch.dtype, home: torch.device) -> Any:
        if name == "wan_video_dit":
            return draw(LARGE, home, dtype)
        if name == "wan_video_vae":
            torch.manual_seed(0)
            return WanVideoVAE().to(home, dtype).eval().requires_grad_(False)
        if name == "wan_video_text_encoder":
            with torch.device("meta"):
                made = WanTextEncoder().to(dtype)
            return filled(made.to_empty(device=home))
        return read(replace(files, preset=SMALL_PRESET), paths, name, dtype, home)

    with patch.object(load, "_load", part), patch.object(models, "files_digest", lambda *_: "0"):
        return models.Model(replace(files, preset=LARGE_PRESET), alone(), device)


def filled(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data.fill_(0.01)
    return module.eval().requires_grad_(False)


def made(
    renderer: Renderer, folder: Path, profile: Profile, steps: int
) -> tuple[dict[str, Any], Frames]:
    """Seconds and memory of a video, after a short one that compiles; and its frames."""
    preset = renderer.model.preset
    size = Size(width=preset.width, height=preset.height)
    picture = folder / "first.png"
    Image.linear_gradient("L").resize((size.width, size.height)).convert("RGB").save(picture)
    cuda = renderer.model.device.type == "cuda"
    begun: list[float] = []

    def note(stage: Stage, step: int) -> None:
        if cuda:
            torch.cuda.synchronize()
        if stage in (Stage.DENOISING, Stage.DECODING):
            begun.append(time.monotonic())

    def shot(frames: int, count: int) -> Any:
        begun.clear()
        order = make_order(size=size, frames=frames, steps=count, guidance=5.0, profile=profile)
        return renderer.render(order, picture, progress=note)

    shot(5, 1)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    done = shot(preset.frames, steps)
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    facts = {
        "kernels": renderer.model.at_work._asdict(),
        "steps": steps,
        "stepSeconds": round([after - before for before, after in pairwise(begun)][-1], 3),
        "seconds": done.seconds,
        "peakGiB": round(peak, 1),
    }
    return facts, done.frames


if __name__ == "__main__":
    main()
