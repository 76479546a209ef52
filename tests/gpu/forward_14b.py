"""One pass through the transformer in Wan2.1-I2V-14B's shapes, 1280x720 x 81 frames: seconds and
memory of DiffSynth's own pass and of the profiles, in turn, and the error of each against float32.

    PYTHONPATH=runtime:tests python tests/gpu/forward_14b.py --out row.json

Random weights, drawn so that attention is neither uniform nor one-hot. `--small` is the dry run.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, get_args

import torch
from diffsynth.models.wan_video_dit import AttentionModule, WanModel
from diffsynth.pipelines.wan_video import model_fn_wan_video
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profile_of

from wan_runtime.contract.service import Profile
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.dit import fused, kernels
from wan_runtime.models.dit.attention import choose
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.transformer import Choice, Transformer

LARGE = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
SMALL = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 2}
HEAD = 32
"""Width of a head that RoPE can split into three even parts."""
VIDEO, FEW = (21, 90, 160), (5, 60, 104)
"""Latent frames, rows and columns: 75,600 and 7,800 tokens."""
RANK = 32
STOCK = "DiffSynth"
PROFILES = (STOCK, *get_args(Profile))
ADAPTED: tuple[Profile, ...] = ("Lossless", "Fast")
"""Also timed with a LoRA."""
EIGHT_BITS = ("e4m3", "_qq")
"""In names of kernels of 8-bit products: CUTLASS's, cuBLAS's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="a few tokens, on a CPU")
    parser.add_argument("--profiles", nargs="+", default=PROFILES, choices=PROFILES)
    parser.add_argument("--rounds", type=int, default=2, help="each profile so many times, in turn")
    parser.add_argument("--errors", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    small = options.small
    device = torch.device("cpu" if small else "cuda")
    dtype = torch.float32 if small else torch.bfloat16
    module = draw(SMALL if small else LARGE, device, dtype)
    video = (2, 8, 8) if small else VIDEO
    few = (2, 6, 6) if small else FEW
    row: dict[str, Any] = {"passes": [], "errors": {}}
    plain = [(profile, False) for profile in options.profiles]
    adapted = [(profile, True) for profile in ADAPTED if profile in options.profiles]
    for profile, lora in (*plain * options.rounds, *adapted):
        transformer = opened(module, device, dtype, profile)
        name = f"{profile} with LoRA" if lora else profile
        row["passes"].append({"name": name} | timed(transformer, video, lora))
        print(row["passes"][-1], flush=True)
    all_blocks = module.blocks
    measured = ((all_blocks, few), (all_blocks[1:2], video)) if options.errors else ()
    for blocks, latent in measured:
        module.blocks = blocks
        fused.KEPT = min(fused.KEPT, len(blocks) - 1)
        wanted = velocity(Transformer(module, device, torch.float32), latent)
        for profile in options.profiles:
            found = velocity(opened(module, device, dtype, profile), latent)
            error = float((found - wanted).norm() / wanted.norm())
            row["errors"][f"{profile}, blocks: {len(blocks)}, tokens: {tokens(latent)}"] = error
    print(row["errors"], flush=True)
    if "Fast" in options.profiles and not small:
        row["attention"] = trials(device, dtype, tokens(video))
        print(row["attention"], flush=True)
        module.blocks, fused.KEPT = all_blocks[1:2], 0
        row["kernels"] = products(Transformer(module, device, dtype, profile="Fast"), video)
        print(row["kernels"], flush=True)
    options.out.write_text(json.dumps(row, indent=1))


def small_for(ranks: int) -> dict[str, int]:
    """SMALL, with a head for each rank."""
    few = SMALL["num_heads"] >= ranks
    return SMALL if few else SMALL | {"dim": HEAD * ranks, "num_heads": ranks}


def draw(shape: dict[str, int], device: torch.device, dtype: torch.dtype) -> Any:
    """Attention logits get a standard deviation near 2."""
    torch.set_default_dtype(dtype)
    with torch.device(device):
        module = WanModel(
            in_dim=36, out_dim=16, text_dim=4096, freq_dim=256, eps=1e-6,
            patch_size=(1, 2, 2), has_image_input=True, **shape,
        )  # fmt: skip
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator(device).manual_seed(1)
    for name, parameter in module.named_parameters():
        data = parameter.data
        if name.endswith("modulation"):
            data.normal_(0, 0.3, generator=generator)
        elif data.dim() > 1:
            data.normal_(0, (2 / (data.shape[0] + data[0].numel())) ** 0.5, generator=generator)
        elif name.endswith("bias"):
            data.normal_(0, 0.02, generator=generator)
        else:
            wide = "norm_q" in name or "norm_k" in name
            data.normal_(1.5 if wide else 1.0, 0.1, generator=generator)
    return module.eval().requires_grad_(False)


class Stock:
    """DiffSynth's own pass through its module, as its pipeline calls it."""

    def __init__(self, module: Any, device: torch.device, dtype: torch.dtype) -> None:
        """Undo what a `Transformer` has changed in the module."""
        self.module, self.device, self.dtype = module, device, dtype
        for block in module.blocks:
            block.self_attn.attn = AttentionModule(block.self_attn.num_heads)
        module.time_embedding.to(dtype)
        module.time_projection.to(dtype)
        own = choose("Auto")
        self.at_work = Choice(own, own, float8=False)
        self._conditions: Conditions | None = None

    def begin(self, conditions: Conditions) -> Stock:
        """As a `Transformer` does."""
        self._conditions = conditions
        return self

    def velocity(self, noisy: Tensor, sigmas: Tensor) -> Tensor:
        """As a `Pass` does."""
        assert self._conditions is not None
        made: Tensor = model_fn_wan_video(
            dit=self.module,
            latents=noisy.to(self.dtype),
            timestep=(sigmas * 1000).to(self.device, self.dtype),
            context=self._conditions.context_BLD,
            clip_feature=self._conditions.clip_BLD,
            y=self._conditions.y_BCTHW,
        )
        return made.float()


def opened(
    module: Any, device: torch.device, dtype: torch.dtype, profile: Any
) -> Transformer | Stock:
    """What makes a pass by a profile, or as DiffSynth."""
    if profile == STOCK:
        return Stock(module, device, dtype)
    return Transformer(module, device, dtype, profile=profile)


def inputs(
    transformer: Transformer | Stock, latent: tuple[int, int, int]
) -> tuple[Conditions, Tensor]:
    """The same numbers in any dtype: those of bfloat16."""
    device = transformer.device
    generator = torch.Generator(device).manual_seed(2)

    def normal(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, device=device, generator=generator)
        return drawn.bfloat16().to(transformer.dtype)

    conditions = Conditions(normal(1, 512, 4096), normal(1, 20, *latent), normal(1, 257, 1280))
    return conditions, normal(1, 16, *latent).float()


@torch.no_grad()
def timed(
    transformer: Transformer | Stock, latent: tuple[int, int, int], lora: bool
) -> dict[str, Any]:
    conditions, noisy = inputs(transformer, latent)
    seconds = []
    cuda = transformer.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with adapted(transformer) if lora else nullcontext():
        began = time.monotonic()
        going = transformer.begin(conditions)
        for _ in range(3):
            going.velocity(noisy, torch.tensor([0.5]))
            if cuda:
                torch.cuda.synchronize()
            seconds.append(round(time.monotonic() - began, 3))
            began = time.monotonic()
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    return {
        "kernels": transformer.at_work._asdict(),
        "first": seconds[0],
        "seconds": min(seconds[1:]),
        "peakGiB": round(peak, 1),
    }


def trials(device: torch.device, dtype: torch.dtype, count: int) -> dict[str, Any]:
    """Seconds and error of each attention kernel that runs here, all heads."""
    heads, width = LARGE["num_heads"], LARGE["dim"] // LARGE["num_heads"]
    found = {name: kernels.try_out(name, device, dtype, heads, width, count)
             for name in kernels.available(device, dtype)}  # fmt: skip
    return {name: each and each._asdict() for name, each in found.items()}


@torch.no_grad()
def products(transformer: Transformer, latent: tuple[int, int, int]) -> dict[str, float]:
    """Milliseconds of the slowest kernels of a pass, by name. Linear layers must be among them that
    compute in 8 bits."""
    velocity(transformer, latent)
    with profile_of(activities=[ProfilerActivity.CUDA]) as found:
        velocity(transformer, latent)
        torch.cuda.synchronize()
    events = sorted(found.key_averages(), key=lambda each: -each.self_device_time_total)
    slowest = {each.key[:400]: round(each.self_device_time_total / 1e3, 2) for each in events[:12]}
    products = [name.lower() for name in slowest if "gemm" in name.lower() or "nvjet" in name]
    assert any(mark in name for name in products for mark in EIGHT_BITS), slowest
    return slowest


def adapted(transformer: Transformer | Stock) -> AbstractContextManager[None]:
    assert isinstance(transformer, Transformer)
    return transformer.adapted([(adapter(transformer), 1.0)])


def adapter(transformer: Transformer) -> Changes:
    generator = torch.Generator().manual_seed(3)
    factors = {}
    for name, shape in transformer.shapes.items():
        layer, _, kind = name.rpartition(".")
        ending = layer.removeprefix("blocks.").partition(".")[2]
        if kind == "weight" and ending.endswith((".q", ".k", ".v", ".o", "ffn.0", "ffn.2")):
            b = torch.randn(shape[0], RANK, generator=generator) * 0.01
            a = torch.randn(RANK, shape[1], generator=generator) * shape[1] ** -0.5
            factors[layer] = (b.to(transformer.dtype), a.to(transformer.dtype))
    return Changes(address="drawn", factors=factors, differences={})


@torch.no_grad()
def velocity(transformer: Transformer | Stock, latent: tuple[int, int, int]) -> Tensor:
    conditions, noisy = inputs(transformer, latent)
    return transformer.begin(conditions).velocity(noisy, torch.tensor([0.5]))


def tokens(latent: tuple[int, int, int]) -> int:
    return latent[0] * latent[1] * latent[2] // 4


if __name__ == "__main__":
    main()
