"""Clips a second of the encode step: diffsynth's encoder beside our own, in turn.

    PYTHONPATH=runtime:tests python tests/gpu/encode_clips.py --out rows.json

The step's own loop over video files of 832x480, 49 frames, with the VAE's released shapes and
random weights; encoder `No` is diffsynth's, with one reader ahead, as every earlier release had it.
Entries go to the disk in place of the store. Then the error of both in bfloat16 against diffsynth's
in float32. `--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from diffsynth.models.wan_video_vae import WanVideoVAE
from numpy.typing import NDArray
from safetensors.torch import save_file

from wan_runtime.contract.job import JobSpec
from wan_runtime.data import encode, latents
from wan_runtime.data.clips import read_clip
from wan_runtime.data.latents import Encoders, Entry
from wan_runtime.models import load
from wan_runtime.models.encoders import Own, VideoEncoder
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import compute_device, compute_dtype
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.media import write_mp4

FILES = 8
ENCODERS = Encoders(
    tokenizer="t", text_encoder="e", vae="v", image_encoder=None, tiled=False, dtype="bfloat16"
)


def clip(number: int, size: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A picture that drifts, of some detail, [F, H, W, 3]."""
    frames, height, width = size
    draw = np.random.default_rng(number)
    coarse = draw.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    noise = draw.integers(0, 12, (height, width, 3), np.uint8)
    return np.stack([np.roll(picture, 2 * at, 1) // 2 + 60 + noise for at in range(frames)])


def vae(dtype: torch.dtype, device: torch.device) -> Any:
    torch.manual_seed(0)
    made = WanVideoVAE(z_dim=16).to(dtype).to(device).eval().requires_grad_(False)
    return load._forgetful(made)


def encoder(dtype: torch.dtype, device: torch.device, own: Own) -> VideoEncoder:
    files = cast(ModelFiles, SimpleNamespace(preset=PRESETS["Wan2.2-I2V-A14B"]))
    return VideoEncoder(files, dtype, device, tiled=False, encoder=own)


def loop(files: list[Path], count: int, size: tuple[int, int, int], own: Own) -> dict[str, float]:
    """The step over `count` windows. `own`: of `VideoEncoder`."""
    frames, height, width = size
    device = compute_device()
    dtype = compute_dtype(device)
    job = SimpleNamespace(cache_prefix="p")
    with TemporaryDirectory() as folder:
        step = encode._Encoding(
            cast(JobSpec, job), mock.Mock(), Path(folder), mock.Mock(), ENCODERS, device, dtype
        )
        made = encoder(dtype, device, own)

        def read(_store: Any, at: Any, *_: Any) -> NDArray[np.uint8]:
            path = files[at.number % len(files)]
            return read_clip(path, frames=frames, fps=16, width=width, height=height)

        def put(_store: Any, key: str, tensors: dict[str, torch.Tensor]) -> Entry:
            save_file({n: t.contiguous() for n, t in tensors.items()}, Path(folder) / "entry")
            return Entry(key=key, bytes=1, sha256="0" * 64)

        with (
            mock.patch.multiple(
                encode,
                frames_of=read,
                first_frame_of=lambda _store, _clip, frames, _folder: frames[0],
                finetune_of=lambda _job: SimpleNamespace(dataset=SimpleNamespace(fps=16)),
                READERS=1 if own == "No" else encode.READERS,
            ),
            mock.patch.multiple(
                latents,
                find=lambda *_: None,
                put=put,
                video_key=lambda clip, *_: f"v{clip.number}",
                image_key=lambda clip, *_: f"i{clip.number}",
            ),
            mock.patch.object(step, "_video_encoder", return_value=made),
        ):
            began = time.perf_counter()
            clips: Any = [SimpleNamespace(path=str(at), number=at) for at in range(count)]
            step.encode_windows([(each, 0) for each in clips])
            seconds = time.perf_counter() - began
    return {
        "clips": count,
        "seconds": round(seconds, 2),
        "clipsPerSecond": round(count / seconds, 3),
    }


def gpu_seconds(encoder: VideoEncoder, frames: NDArray[np.uint8]) -> float:
    """Seconds of one clip whose frames are in memory."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    encoder.encode_video(frames)
    encoder.encode_first_frame(frames[0], len(frames))
    torch.cuda.synchronize()
    return round(time.perf_counter() - began, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = compute_device()
    dtype = compute_dtype(device)
    size = (9, 48, 64) if options.small else (49, 480, 832)
    kind: Own = "Compiled" if device.type == "cuda" else "Eager"
    content: dict[str, Any] = {"size": size, "rows": []}

    def write() -> None:
        print(json.dumps(content["rows"][-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(content, indent=1))

    with (
        TemporaryDirectory() as folder,
        mock.patch.object(load, "load_vae", lambda _files, dtype, device: vae(dtype, device)),
    ):
        files = [Path(folder) / f"{number}.mp4" for number in range(FILES)]
        for number, path in enumerate(files):
            write_mp4(clip(number, size), path, 16)
        began = time.perf_counter()
        frames = read_clip(files[0], frames=size[0], fps=16, width=size[2], height=size[1])
        content["rows"].append({"readingOneClip": round(time.perf_counter() - began, 3)})
        write()
        every: tuple[Own, ...] = ("No", "Eager", kind)
        if device.type == "cuda":
            for own in every:
                made = encoder(dtype, device, own)
                torch.cuda.reset_peak_memory_stats()
                taken = [gpu_seconds(made, frames) for _ in range(4)]
                peak = round(torch.cuda.max_memory_allocated() / 2**30, 2)
                content["rows"].append({"encoder": own, "oneClip": taken, "peakGiB": peak})
                write()
                del made
        for _ in range(options.rounds):
            for own in (every[0], kind):
                loop(files, 1, size, own)  # what is compiled or chosen once
                content["rows"].append({"encoder": own, **loop(files, options.clips, size, own)})
                write()
        errors: dict[str, Any] = {}
        part = frames[: 17 if not options.small else 9]
        found = {}
        compared: tuple[tuple[str, Own, torch.dtype], ...] = (
            ("float32", "No", torch.float32), ("stock", "No", dtype), ("own", kind, dtype),
        )  # fmt: skip
        for name, own, kept in compared:
            made = encoder(kept, device, own)
            torch.backends.cudnn.allow_tf32 = False
            found[name] = {
                "video": made.encode_video(part)["latents"].float(),
                "photo": made.encode_first_frame(part[0], len(part))["y"][4:].float(),
            }
        for name in ("stock", "own"):
            errors[name] = {
                kind: float((found[name][kind] - exact).norm() / exact.norm())
                for kind, exact in found["float32"].items()
            }
        content["rows"].append({"relativeErrorAgainstFloat32": errors})
        write()


if __name__ == "__main__":
    main()
