"""Where the time goes at 1280x720 x 81 frames: kernels of the VAE's decoder, and of a step with
guidance on several GPUs, each beside what the GPU waits.

    PYTHONPATH=runtime:tests python tests/gpu/profile_14b.py decode --out rows.json
    PYTHONPATH=runtime:tests python tests/gpu/profile_14b.py step --layers 20 --out rows.json

`decode` decodes the whole picture on one GPU, then on all ranks a band each. `step` times each
rank's pass while the others rest and while all work, and their exchange. Random weights. `--small`
is the dry run, on a CPU, without kernels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.profiler import ProfilerActivity, profile

from gpu.decode_14b import SMALL as SMALL_LATENT
from gpu.decode_14b import VIDEO, drawn, joined
from gpu.forward_14b import LARGE, SMALL, draw, inputs
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.dit.transformer import Pass, Transformer
from wan_runtime.models.vae_half import HALF

GROUPS = {
    "exchange": ("nccl",),
    "copies": ("memcpy", "memset"),
    "attention": ("flash", "fmha", "sdpa", "attention"),
    "convolutions": ("conv", "implicit", "xmma_fprop", "fprop"),
    "products": ("gemm", "nvjet", "cutlass", "cublas"),
}
"""Words in kernels' names. All others are element-wise, or move numbers about."""
SLOWEST = 14
"""Kernels that are listed by name."""
SIGMA = 0.5
PERIOD_SECONDS = 0.25
"""Between readings of clock and power."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("decode", "step"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--layers", type=int, default=40, help="of a step's transformer")
    parser.add_argument("--small", action="store_true", help="a few tokens, on a CPU")
    options = parser.parse_args()
    measure = {"decode": decode, "step": step}[options.what]
    with tempfile.TemporaryDirectory() as folder:
        given = (options.ranks, Path(folder, "meet"), options)
        spawn(measure, given, nprocs=options.ranks)  # type: ignore[no-untyped-call]


def write(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    print(json.dumps(rows[-1]), flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


@torch.no_grad()
def decode(rank: int, world: int, meet: Path, options: argparse.Namespace) -> None:
    ranks, device = joined(rank, world, meet, small=options.small)
    decoder = drawn(device, HALF)
    size = SMALL_LATENT if options.small else VIDEO
    latents = torch.randn(1, 16, *size, generator=torch.Generator().manual_seed(1))
    latents = latents.to(device, HALF)
    whole = profiled(lambda: decoder.frames(latents, alone()), device) if rank == 0 else {}
    rows: list[Any] = [{"rows": "all"} | whole]
    if world > 1:
        row = profiled(lambda: decoder.frames(latents, ranks), device, dist.barrier)
        bands: list[Any] = [None] * world
        dist.all_gather_object(bands, {"rows": f"band {rank} of {world}"} | row)
        rows += bands
        dist.destroy_process_group()
    if rank == 0:
        write(options, rows)


def profiled(
    action: Callable[[], Any], device: torch.device, together: Callable[[], Any] = lambda: None
) -> dict[str, Any]:
    """Seconds of the first time and of the fastest of three more, and kernels of a last."""
    row: dict[str, Any] = {"first": timed(action, device, together)}
    row["seconds"] = min(timed(action, device, together) for _ in range(3))
    return row | kernels_of(action, device, together)


@torch.no_grad()
def step(rank: int, world: int, meet: Path, options: argparse.Namespace) -> None:
    small = options.small
    ranks, device = joined(rank, world, meet, small=small)
    dtype = torch.float32 if small else torch.bfloat16
    module = draw(SMALL if small else LARGE | {"num_layers": options.layers}, device, dtype)
    transformer = Transformer(module, device, dtype, profile="Lossless")
    conditions, noisy = inputs(transformer, (2, 6, 10) if small else VIDEO)
    begun = transformer.begin(conditions)
    row: dict[str, Any] = {"rank": rank, "layers": len(module.blocks)}
    row["first"] = timed(lambda: one(begun, noisy, ranks), device)
    for turn in range(world):
        if turn == rank:
            row["alone"] = timed(lambda: begun.velocity(noisy, torch.tensor([SIGMA])), device)
        dist.barrier()
    velocity = begun.velocity(noisy, torch.tensor([SIGMA]))
    row["passWhileAllWork"] = timed(
        lambda: begun.velocity(noisy, torch.tensor([SIGMA])), device, dist.barrier
    )
    exchange = [timed(lambda: ranks.gather_halves(velocity), device, dist.barrier)
                for _ in range(3)]  # fmt: skip
    row["exchange"] = min(exchange)
    with sampled(device) as read:
        row["step"] = timed(lambda: one(begun, noisy, ranks), device, dist.barrier)
    row |= {name: round(mean(values)) for name, values in read.items() if values}
    row |= kernels_of(lambda: one(begun, noisy, ranks), device, dist.barrier)
    rows: list[Any] = [None] * world
    dist.all_gather_object(rows, row)
    if rank == 0:
        write(options, rows)
    dist.destroy_process_group()


def one(begun: Pass, noisy: Tensor, ranks: Ranks) -> None:
    """A rank's part of a step with guidance."""
    ranks.gather_halves(begun.velocity(noisy, torch.tensor([SIGMA])))


@contextmanager
def sampled(device: torch.device) -> Iterator[dict[str, list[float]]]:
    """The GPU's clock and power, as long as it lasts; nothing where no driver tells."""
    read: dict[str, list[float]] = {"megahertz": [], "watts": []}
    if device.type != "cuda":
        yield read
        return
    over = threading.Event()

    def note() -> None:
        while not over.wait(PERIOD_SECONDS):
            read["megahertz"].append(torch.cuda.clock_rate(device))
            read["watts"].append(torch.cuda.power_draw(device) / 1000)

    reader = threading.Thread(target=note, daemon=True)
    reader.start()
    try:
        yield read
    finally:
        over.set()
        reader.join()


def timed(
    action: Callable[[], Any], device: torch.device, together: Callable[[], Any] = lambda: None
) -> float:
    """Seconds, from when all ranks are there."""
    settle(device)
    together()
    began = time.monotonic()
    action()
    settle(device)
    return round(time.monotonic() - began, 3)


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def kernels_of(
    action: Callable[[], Any], device: torch.device, together: Callable[[], Any] = lambda: None
) -> dict[str, Any]:
    """Milliseconds of the kernels of each kind, of the slowest ones by name, and those in which
    none ran."""
    if device.type != "cuda":
        action()
        return {}
    settle(device)
    together()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        action()
        settle(device)
    events = [each for each in found.events() if each.device_type.name == "CUDA"]
    groups: Counter[str] = Counter()
    names: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for each in events:
        took = each.time_range.elapsed_us() / 1e3
        groups[group_of(each.name)] += took
        names[each.name[:160]] += took
        calls[each.name[:160]] += 1
    spans = [(each.time_range.start, each.time_range.end) for each in events]
    busy, wall = covered(spans) / 1e3, (max(e for _, e in spans) - min(s for s, _ in spans)) / 1e3
    return {
        "wall": round(wall, 1),
        "idle": round(wall - busy, 1),
        "groups": {name: round(took, 1) for name, took in groups.most_common()},
        "kernels": [
            [round(took, 1), calls[name], name] for name, took in names.most_common(SLOWEST)
        ],
    }


def group_of(name: str) -> str:
    low = name.lower()
    return next((group for group, words in GROUPS.items() if any(word in low for word in words)),
                "others")  # fmt: skip


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


if __name__ == "__main__":
    main()
