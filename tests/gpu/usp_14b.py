"""A step of a video in Wan2.1-I2V-14B's shapes by stock diffsynth's USP on several GPUs: seconds
and memory, where it runs at all.

    PYTHONPATH=runtime:tests python tests/gpu/usp_14b.py --ranks 4 --out row.json

diffsynth's own forward, its attention and groups of xfuser, one pass after the other as its
pipeline has guidance, on the weights and inputs of step_14b.py. Where a package is missing or does
not fit the others, the row has the error. A name that this release of xfuser imports from yunchang
and never calls on a GPU of NVIDIA's is put there. `--small` is the dry run, on a CPU, where xfuser
cannot be imported: our own exchange stands in its place.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffsynth.pipelines.wan_video import model_fn_wan_video
from torch import Tensor

from gpu import ranks
from gpu.forward_14b import LARGE, VIDEO, draw, inputs, small_for
from wan_runtime.models.dit.kernels import sdpa
from wan_runtime.models.dit.parallel import Group
from wan_runtime.models.dit.tokens import TokenSplit
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.process import launch

USP = "diffsynth.utils.xfuser"
GROUPS = "xfuser.core.distributed"
ATTENTION = "xfuser.core.long_ctx_attention"
STEPS = 3
"""The first one warms up."""
PASSES = 2
"""Of a step with guidance."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--small", action="store_true", help="a few tokens, on a CPU")
    options = parser.parse_args()
    place = launch.place()
    if place.world < options.ranks:
        return ranks.launch(options.ranks)
    row = {"ranks": options.ranks, "passes": PASSES}
    try:
        row |= measured(place.rank, options.ranks, small=options.small)
    except (ImportError, RuntimeError, AssertionError) as error:
        row["error"] = f"{type(error).__name__}: {error}"[:500]
    if place.rank == 0:
        print(json.dumps(row), flush=True)
        options.out.write_text(json.dumps([row], indent=1) + "\n")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


@torch.no_grad()
def measured(rank: int, world: int, *, small: bool) -> dict[str, Any]:
    device = torch.device("cpu") if small else torch.device("cuda", rank)
    dtype = torch.float32 if small else torch.bfloat16
    usp = stand_in() if small else stock()
    if small:
        dist.init_process_group("gloo", init_method="env://")
    else:
        usp.initialize_usp("cuda")
    module = draw(small_for(world) if small else LARGE, device, dtype)
    conditions, noisy = inputs(
        Transformer(module, device, dtype, profile="Exact"), (2, 6, 10) if small else VIDEO
    )
    for block in module.blocks:
        block.self_attn.forward = types.MethodType(usp.usp_attn_forward, block.self_attn)
    one = torch.tensor([500.0], device=device, dtype=dtype)

    def velocity() -> Tensor:
        found: Tensor = model_fn_wan_video(
            dit=module, latents=noisy.to(dtype), timestep=one, context=conditions.context_BLD,
            clip_feature=conditions.clip_BLD, y=conditions.y_BCTHW,
            use_unified_sequence_parallel=True,
        )  # fmt: skip
        return found

    if not small:
        torch.cuda.reset_peak_memory_stats()
    took = [timed(velocity, small=small) for _ in range(STEPS)]
    gib = 0.0 if small else torch.cuda.max_memory_allocated() / 2**30
    return {"first": took[0], "seconds": min(took[1:]), "peakGiB": round(gib, 1)}


def timed(velocity: Callable[[], Tensor], *, small: bool) -> float:
    """Seconds of a step."""
    dist.barrier()
    began = time.monotonic()
    for _ in range(PASSES):
        assert velocity().isfinite().all()
    if not small:
        torch.cuda.synchronize()
    return round(time.monotonic() - began, 3)


def stock() -> Any:
    """diffsynth's module. Raises ImportError."""
    try:
        return importlib.import_module(USP)
    except ImportError as error:
        absent = re.search(r"cannot import name '(\w*npu\w*)' from '(yunchang[\w.]*)'", str(error))
        if absent is None:
            raise
    setattr(importlib.import_module(absent[2]), absent[1], None)
    for name in [each for each in sys.modules if each.startswith((USP, "xfuser"))]:
        del sys.modules[name]
    return importlib.import_module(USP)


def stand_in() -> Any:
    """diffsynth's module, above our exchange."""

    class Gathered:
        def all_gather(self, x: Tensor, dim: int) -> Tensor:
            parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, x.contiguous())
            return torch.cat(parts, dim)

    class Attention:
        def __init__(self, **_: object) -> None:
            world = dist.get_world_size()
            self.group = Group(tuple(range(world)), dist.get_rank())

        def __call__(self, _: object, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            own, heads = query.shape[1], query.shape[2]
            tokens = TokenSplit(self.group, [own] * self.group.size)
            flat = [each.flatten(2) for each in (query, key, value)]
            made = tokens.attend(flat, heads, sdpa)
            return made.reshape(*made.shape[:2], heads, -1)

    groups, attention = types.ModuleType(GROUPS), types.ModuleType(ATTENTION)
    groups.__dict__.update(
        get_sequence_parallel_rank=dist.get_rank,
        get_sequence_parallel_world_size=dist.get_world_size,
        get_sp_group=Gathered,
    )
    attention.__dict__["xFuserLongContextAttention"] = Attention
    parents = {name: types.ModuleType(name) for name in ("xfuser", "xfuser.core")}
    sys.modules.update({**parents, GROUPS: groups, ATTENTION: attention})
    torch.cpu.__dict__.setdefault("empty_cache", lambda: None)
    return importlib.import_module(USP)


if __name__ == "__main__":
    sys.exit(main())
