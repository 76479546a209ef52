"""One step of a video in Wan2.1-I2V-14B's shapes, 1280x720 x 81 frames, on several GPUs: seconds
and memory of each profile, with guidance (a pass for each half of the GPUs) and without (all GPUs
share the tokens), of the own exchange of tokens and of xDiT's in turn, with a ring or without,
whether all ranks end with the same bits, and whether those are what one of them makes alone, as
they are with Exact.

    PYTHONPATH=runtime:tests python tests/gpu/step_14b.py --out rows.json

Random weights. `--small` is the dry run, on a CPU, with heads for any number of ranks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gpu.forward_14b import LARGE, VIDEO, draw, inputs, small_for
from wan_runtime.contract.service import ParallelSpec, Profile, layout_of
from wan_runtime.contract.steps import Expert
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.parallel import Ranks, alone, join
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.rendering.sampling import Prompted, Step, denoise

PROFILES: tuple[Profile, ...] = ("Lossless", "Balanced", "Exact")
BACKENDS = ("Native", "xDiT")
SIGMAS = (0.9, 0.8, 0.7)
"""The first step compiles and chooses kernels; the fastest of the others counts."""
GUIDANCES = (5.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--profiles", nargs="+", default=PROFILES, choices=get_args(Profile))
    parser.add_argument("--backends", nargs="+", default=BACKENDS[:1], choices=BACKENDS)
    parser.add_argument("--layers", type=int, help="blocks; all if left out")
    parser.add_argument("--ring", type=int, default=1, choices=(1, 2, 4), help="of xDiT")
    parser.add_argument("--small", action="store_true", help="a few tokens, on a CPU")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = (options.ranks, Path(folder, "meet"), options)
        spawn(measure, given, nprocs=options.ranks)  # type: ignore[no-untyped-call]


def measure(rank: int, world: int, meet: Path, options: argparse.Namespace) -> None:
    small = options.small
    # Multicast over NVLink is not there on every host, and our exchange has no use for it.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    device = torch.device("cpu") if small else torch.device("cuda", rank)
    if not small:
        torch.cuda.set_device(device)
    layouts = layouts_of(rank, world, meet, options.backends, options.ring)
    dtype = torch.float32 if small else torch.bfloat16
    shape = small_for(world) if small else LARGE
    module = draw(shape | ({"num_layers": options.layers} if options.layers else {}), device, dtype)
    rows = []
    one = {"one GPU": alone()} if world > 1 else {}
    latent = (2, 6, 10) if small else VIDEO
    for profile in options.profiles:
        transformer = Transformer(module, device, dtype, profile=profile)
        for guidance in GUIDANCES:
            first: dict[str, Any] | None = None
            # Exact promises the bits of one GPU, which each computes for itself then.
            for backend, ranks in ((one if profile == "Exact" else {}) | layouts).items():
                row = {"profile": profile, "guidance": guidance, "ranks": ranks.world}
                row |= {"layout": ranks.exchange, "layers": len(module.blocks)}
                rows.append(
                    row | {"backend": backend} | timed(transformer, guidance, ranks, latent)
                )
                first = first or rows[-1]
                if profile == "Exact":
                    rows[-1]["asOne"] = rows[-1]["latents"] == first["latents"]
                if rank == 0:
                    print(json.dumps(rows[-1]), flush=True)
                    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    if world > 1:
        dist.destroy_process_group()


def layouts_of(
    rank: int, world: int, meet: Path, backends: Sequence[str], ring: int
) -> dict[str, Ranks]:
    """The same ranks with each exchange."""
    ranks = join(rank, world, meet, ParallelSpec(ring=ring) if "xDiT" in backends else None)
    own: dict[str, Any] = {
        name: replace(getattr(ranks, name), exchange=None) for name in ("everyone", "half")
    }
    found = {"Native": replace(ranks, **own, exchange=layout_of(world, None)), "xDiT": ranks}
    return {backend: found[backend] for backend in backends}


def timed(
    transformer: Transformer, guidance: float, ranks: Ranks, latent: tuple[int, int, int]
) -> dict[str, Any]:
    conditions, noisy = inputs(transformer, latent)
    other = Conditions(conditions.context_BLD.flip(1), conditions.y_BCTHW, conditions.clip_BLD)
    cuda = transformer.device.type == "cuda"
    began = []

    def note(number: int) -> None:
        if cuda:
            torch.cuda.synchronize()
        began.append(time.monotonic())

    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    steps = [Step(sigma, Expert.ONLY, guidance) for sigma in SIGMAS]
    prompted = Prompted(conditions, other)
    latents = denoise(lambda _: transformer, steps, noisy, prompted, ranks, before_step=note)
    note(len(steps))
    seconds = [after - before for before, after in pairwise(began)]
    digests: list[Any] = [hashlib.sha256(latents.cpu().numpy().tobytes()).hexdigest()]
    if ranks.world > 1:
        mine, digests = digests[0], [None] * ranks.world
        dist.all_gather_object(digests, mine)
    return {
        "kernels": transformer.at_work._asdict(),
        "first": round(seconds[0], 3),
        "seconds": round(min(seconds[1:]), 3),
        "peakGiB": round(torch.cuda.max_memory_allocated() / 2**30, 1) if cuda else 0.0,
        "alike": len(set(digests)) == 1,
        "latents": digests[0][:16],
    }


if __name__ == "__main__":
    main()
