"""Decoding of 81 frames of 1280x720 by the VAE of Wan's models, on one GPU and on several: seconds
from latents to levels in host memory, memory, and how far the bands of several ranks are from the
whole picture.

    PYTHONPATH=runtime:tests python tests/gpu/decode_14b.py --out rows.json

Random weights. `--small` is the dry run, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffsynth.models.wan_video_vae import WanVideoVAE
from torch import Tensor

from wan_runtime.models.dit.parallel import Ranks, alone, join
from wan_runtime.models.vae_decoder import Decoder

VIDEO, SMALL = (21, 90, 160), (2, 48, 2)
"""Latent frames, rows and columns."""
TIMES = 4
"""Runs, of which the first compiles."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--small", action="store_true", help="a few rows, on a CPU")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = (options.ranks, Path(folder, "meet"), options)
        mp.spawn(measure, given, nprocs=options.ranks)


def measure(rank: int, world: int, meet: Path, options: argparse.Namespace) -> None:
    # Multicast over NVLink is not there on every host, and our exchange has no use for it.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    device = torch.device("cpu") if options.small else torch.device("cuda", rank)
    if not options.small:
        torch.cuda.set_device(device)
    ranks = join(rank, world, meet)
    dtype = torch.float32 if options.small else torch.bfloat16
    torch.manual_seed(0)
    vae = WanVideoVAE().to(device, dtype).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(1)
    latent = SMALL if options.small else VIDEO
    latents = torch.randn(1, 16, *latent, generator=draw).to(device, dtype)
    decoder = Decoder(vae, compiled=device.type == "cuda")
    rows, made = [], []
    for together in [alone(), ranks][: 2 if world > 1 else 1]:
        if together.world == 1 and rank:
            dist.barrier()
            continue
        row, levels = timed(decoder, latents, together)
        made.append(levels)
        if together.world == 1:
            row["pageable"] = pageable(decoder, latents)
            row["equal"] = torch.equal(row["pageable"].pop("levels"), levels)
            if world > 1:
                dist.barrier()
        elif rank == 0:
            off = (made[0].int() - levels.int()).abs()
            row |= {"off": int(off.max()), "share": float((off > 0).float().mean())}
        rows.append(row)
        if rank == 0:
            print(json.dumps(row), flush=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    if world > 1:
        dist.destroy_process_group()


def timed(decoder: Decoder, latents: Tensor, ranks: Ranks) -> tuple[dict[str, Any], Any]:
    cuda = latents.device.type == "cuda"
    seconds, levels = [], None
    for _ in range(TIMES):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        if ranks.world > 1:
            dist.barrier()
        began = time.monotonic()
        levels = decoder.frames(latents, ranks)
        if cuda:
            torch.cuda.synchronize()
        seconds.append(round(time.monotonic() - began, 3))
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    row = {"ranks": ranks.world, "first": seconds[0], "seconds": min(seconds[1:])}
    return row | {"all": seconds[1:], "peakGiB": round(peak, 1)}, levels


def pageable(decoder: Decoder, latents: Tensor) -> dict[str, Any]:
    """The same with levels that stay on the GPU until all are there, and seconds until then."""
    parts: list[Tensor] = []

    def take(pixels: Tensor) -> None:
        parts.append(((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))

    began = time.monotonic()
    decoder.decode(latents, take)
    if latents.device.type == "cuda":
        torch.cuda.synchronize()
    decoded = time.monotonic() - began
    levels = torch.cat(parts).cpu()
    total = time.monotonic() - began
    return {"decoded": round(decoded, 3), "seconds": round(total, 3), "levels": levels}


if __name__ == "__main__":
    main()
