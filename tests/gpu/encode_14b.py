"""Encoding of a photo, with grey behind it to 81 frames of 1280x720, by the VAE of Wan's models, on
one GPU and on several that share its rows: seconds, memory, and how far their latents are from each
other's and from float32's.

    PYTHONPATH=runtime:tests python tests/gpu/encode_14b.py --out rows.json

Uncompiled, as services encode. Random weights. `--small` is the dry run, on a CPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffsynth.models.wan_video_vae import WanVideoVAE
from torch import Tensor

from gpu.decode_14b import joined, on_ranks, timed
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.vae_encoder import Encoder
from wan_runtime.models.vae_half import HALF

FULL, SMALL = (720, 1280, 81), (8 * 17, 16, 5)
"""Rows, columns and frames."""
EXACT_FRAMES = 9
"""Frames that float32 encodes: latents depend on no later ones."""


def main() -> None:
    on_ranks(measure, __doc__)


def measure(rank: int, world: int, meet: Path, options: argparse.Namespace) -> None:
    ranks, device = joined(rank, world, meet, small=options.small)
    height, width, count = SMALL if options.small else FULL
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    encoder, rows = drawn(device, HALF), []
    if rank == 0:
        exact = drawn(device, torch.float32).photo(image, min(count, EXACT_FRAMES), alone())
        row, whole = timed(lambda: encoder.photo(image, count, alone()), device)
        rows.append({"ranks": 1} | row | {"error": gap(whole[:, : exact.shape[1]], exact)})
        print(json.dumps(rows[-1]), flush=True)
    if world > 1:
        dist.barrier()
        row, made = timed(lambda: encoder.photo(image, count, ranks), device, ranks)
        if rank == 0:
            most = float((made - whole).abs().max())
            rows.append({"ranks": world} | row | {"fromOne": gap(made, whole), "most": most})
            print(json.dumps(rows[-1]), flush=True)
        dist.destroy_process_group()
    if rank == 0:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def drawn(device: torch.device, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    vae = WanVideoVAE().to(device, dtype).eval().requires_grad_(False)
    return Encoder(vae, compiled=False)


def gap(one: Tensor, other: Tensor) -> float:
    """Relative, of the root mean squares."""
    return round(float((one.float() - other.float()).norm() / other.float().norm()), 6)


if __name__ == "__main__":
    main()
