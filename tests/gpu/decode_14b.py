"""Decoding of 81 frames of 1280x720 by the VAE of Wan's models, on one GPU and on several: seconds
from latents to levels in host memory, memory, how far the bands of several ranks are from the whole
picture, and how far all are from float32.

    PYTHONPATH=runtime:tests python tests/gpu/decode_14b.py --out rows.json

In half precision, as services decode, and in bfloat16, in which a video beyond half's range is
decoded. Random weights. `--small` is the dry run, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffsynth.models.wan_video_vae import WanVideoVAE
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from wan_runtime.models.dit.parallel import Ranks, alone, join
from wan_runtime.models.vae_decoder import Decoder

VIDEO, SMALL = (21, 90, 160), (2, 24, 2)
"""Latent frames, rows and columns."""
EXACT_FRAMES = 3
"""Latent frames that float32 decodes. Those behind them change nothing of them."""
TIMES = 4
"""Runs, of which the first compiles."""
DTYPES = (torch.float16, torch.bfloat16)

Measure = Callable[[int, int, Path, argparse.Namespace], None]
"""What each rank does, of so many, that meet at a file."""


def main() -> None:
    on_ranks(measure, __doc__)


def on_ranks(measure: Measure, description: str | None) -> None:
    """Measure by a process for each GPU, as the command line has it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--small", action="store_true", help="a few rows, on a CPU")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = (options.ranks, Path(folder, "meet"), options)
        spawn(measure, given, nprocs=options.ranks)  # type: ignore[no-untyped-call]


def joined(rank: int, world: int, meet: Path, *, small: bool) -> tuple[Ranks, torch.device]:
    """All ranks, and the device of this one. Collective."""
    # Multicast over NVLink is not there on every host, and our exchange has no use for it.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    device = torch.device("cpu") if small else torch.device("cuda", rank)
    if not small:
        torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = False
    return join(rank, world, meet), device


def measure(rank: int, world: int, meet: Path, options: argparse.Namespace) -> None:
    ranks, device = joined(rank, world, meet, small=options.small)
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, *(SMALL if options.small else VIDEO), generator=draw).to(device)
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")

    exact = pixels_of(drawn(device, torch.float32), latents[:, :, :EXACT_FRAMES])
    for dtype in DTYPES[: 1 if options.small else None]:
        decoder = drawn(device, dtype)
        kind: dict[str, Any] = {"dtype": str(dtype).split(".")[-1]}
        if rank == 0:
            pixels = pixels_of(decoder, latents[:, :, :EXACT_FRAMES])
            error = (pixels - exact).abs() * 127.5
            kind |= {"errorMean": round(float(error.mean()), 4), "errorMost": float(error.max())}
            row, whole = timed(partial(levels_of, decoder, latents, alone()), device)
            note(kind | {"ranks": 1} | row)
        if world > 1:
            dist.barrier()
            row, together = timed(partial(levels_of, decoder, latents, ranks), device, ranks)
            if rank == 0:
                note(kind | {"ranks": world} | row | off(together, whole))
    if world > 1:
        dist.destroy_process_group()


def drawn(device: torch.device, dtype: torch.dtype) -> Decoder:
    """A decoder of random weights, the same ones each time."""
    torch.manual_seed(0)
    vae = WanVideoVAE().to(device, dtype).eval().requires_grad_(False)
    return Decoder(vae, compiled=device.type == "cuda" and dtype != torch.float32)


def pixels_of(decoder: Decoder, latents: Tensor) -> Tensor:
    """[F, H, W, 3], float32 in host memory, within the range of levels."""
    parts: list[Tensor] = []
    decoder.decode(latents.to(decoder.dtype), parts.append)
    return torch.cat([each.float().clamp(-1, 1).cpu() for each in parts])


def levels_of(decoder: Decoder, latents: Tensor, ranks: Ranks) -> Tensor:
    """Of all frames, in host memory: empty on all ranks but the first."""
    made = decoder.frames(latents, ranks)
    return torch.empty(0) if made is None else made


def off(levels: Tensor, whole: Tensor) -> dict[str, Any]:
    """Largest difference from the whole picture's levels, and share of the levels that differ."""
    most, differ = 0, 0
    for one, other in zip(torch.split(levels, 8), torch.split(whole, 8), strict=True):
        gap = (one.short() - other.short()).abs()
        most, differ = max(most, int(gap.max())), differ + int((gap > 0).sum())
    return {"off": most, "share": round(differ / whole.numel(), 5)}


def timed(
    action: Callable[[], Tensor], device: torch.device, ranks: Ranks | None = None
) -> tuple[dict[str, Any], Tensor]:
    seconds = []
    for _ in range(TIMES):
        if device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        if ranks is not None:
            dist.barrier()
        began = time.monotonic()
        made = action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(round(time.monotonic() - began, 3))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    row = {"first": seconds[0], "seconds": min(seconds[1:]), "all": seconds[1:]}
    return row | {"peakGiB": round(peak, 1)}, made


if __name__ == "__main__":
    main()
