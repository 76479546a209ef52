"""Gradients of adapters at the 14B width against float32, block by block: ours beside diffsynth's.

    PYTHONPATH=runtime:tests python tests/gpu/block_gradients.py --frames 25 --out rows.json

One draw of clip, noise and level for all three. The exact one runs the same bfloat16 weights in
float32 throughout; the other two differ from it by their rounding alone.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffsynth.pipelines.wan_video import model_fn_wan_video
from torch import Tensor

from gpu.synthetic import build
from passes import velocity_of
from wan_runtime.models.dit.kept import KeptBlocks
from wan_runtime.models.flow import add_noise, velocity
from wan_runtime.models.load import compute_device
from wan_runtime.models.shapes import DIT21, DIT22
from wan_runtime.presets import PRESETS
from wan_runtime.training.batches import Batch
from wan_runtime.training.trainer import Trainer

CONFIGS = {"Wan2.1-I2V-14B-720P": DIT21, "Wan2.2-I2V-A14B": DIT22}
Gradients = dict[int, Tensor]
"""Of all adapters of a block, in one float32 vector, by the block's number."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the code out")
    options = parser.parse_args()
    rows = []
    for name, config in CONFIGS.items():
        shape = {**config, "num_layers": options.layers}
        if options.small:
            shape |= {"dim": 128, "ffn_dim": 256, "num_heads": 4, "text_dim": 64}
        rows += compare(name, shape, options.frames)
        for row in rows[-options.layers :]:
            print(row, flush=True)
    options.out.write_text(json.dumps(rows, indent=1))


def compare(name: str, config: dict[str, Any], frames: int) -> list[dict[str, Any]]:
    """A row a block: relative errors |g - exact| / |exact|."""
    device = compute_device()
    trainer, cache = build(PRESETS[name], config, device)
    cache.frames = frames
    draw = torch.Generator(device).manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in trainer.state.trainable.items():
            if ".lora_B." in parameter_name:  # zero as they start, A would get no gradient
                parameter.normal_(std=0.01, generator=draw)
    batch = cache.batch(trainer)
    noise = torch.randn(batch.clean_BCTHW.shape, generator=draw, device=device)
    sigmas = trainer.draws.levels.sigmas[[len(trainer.draws.levels.sigmas) // 2]]

    ours = gradients(trainer, batch, noise, sigmas, our_forward)
    kept = gradients(trainer, batch, noise, sigmas, kept_forward)
    stock = gradients(trainer, batch, noise, sigmas, stock_forward)
    exact = gradients(trainer, batch, noise, sigmas, exact_forward)
    return [
        {
            "model": name,
            "frames": frames,
            "sigma": float(sigmas),
            "block": block,
            "ours": error(ours[block], exact[block]),
            "kept": error(kept[block], exact[block]),
            "diffsynth": error(stock[block], exact[block]),
        }
        for block in sorted(exact)
    ]


Forward = Callable[[Trainer, Batch, Tensor, Tensor], Tensor]


def our_forward(trainer: Trainer, batch: Batch, noisy: Tensor, sigmas: Tensor) -> Tensor:
    return velocity_of(
        trainer.transformer._module,
        noisy,
        sigmas,
        batch.conditions,
        dtype=trainer.transformer.dtype,
        recompute=True,
    )


def kept_forward(trainer: Trainer, batch: Batch, noisy: Tensor, sigmas: Tensor) -> Tensor:
    """As `gradientCheckpointing: KeepAttention` trains."""
    ours = trainer.transformer
    sizes = ours.device, ours.dtype, ours._attention.heads
    ours._kept = KeptBlocks(ours._module, *sizes, "KeepAttention")
    try:
        return ours.begin(batch.conditions).velocity(noisy, sigmas)
    finally:
        ours._kept = None


def stock_forward(trainer: Trainer, batch: Batch, noisy: Tensor, sigmas: Tensor) -> Tensor:
    """As diffsynth's training calls it: everything, the timestep too, in bfloat16."""
    dit, dtype = trainer.transformer._module, trainer.transformer.dtype
    dit.to(dtype)
    with torch.autocast(noisy.device.type, dtype, enabled=dtype != torch.float32):
        predicted: Tensor = model_fn_wan_video(
            dit,
            latents=noisy.to(dtype),
            timestep=(1000 * sigmas).to(noisy.device, dtype),
            context=batch.conditions.context_BLD,
            clip_feature=batch.conditions.clip_BLD,
            y=batch.conditions.y_BCTHW,
            use_gradient_checkpointing=True,
        )
    return predicted.float()


def exact_forward(trainer: Trainer, batch: Batch, noisy: Tensor, sigmas: Tensor) -> Tensor:
    trainer.transformer._module.float()
    conditions = batch.conditions.to(noisy.device, torch.float32)
    return velocity_of(
        trainer.transformer._module, noisy, sigmas, conditions, dtype=torch.float32, recompute=True
    )


def gradients(
    trainer: Trainer, batch: Batch, noise: Tensor, sigmas: Tensor, forward: Forward
) -> Gradients:
    """Of the mean squared velocity error; leaves the adapters' float32 values as they were."""
    trainable = trainer.state.trainable
    kept = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    noisy = add_noise(batch.clean_BCTHW, noise, sigmas)
    predicted = forward(trainer, batch, noisy, sigmas)
    (predicted - velocity(batch.clean_BCTHW, noise)).pow(2).mean().backward()  # type: ignore[no-untyped-call]
    found: dict[int, list[Tensor]] = {}
    for name, parameter in trainable.items():
        assert parameter.grad is not None, f"{name} has no gradient"
        found.setdefault(block_of(name), []).append(parameter.grad.float().flatten())
        parameter.grad = None
        parameter.data = kept[name]
    return {block: torch.cat(parts) for block, parts in found.items()}


def block_of(name: str) -> int:
    match = re.search(r"blocks\.(\d+)\.", name)
    assert match, name
    return int(match[1])


def error(found: Tensor, exact: Tensor) -> float:
    assert bool(exact.norm() > 0)
    return float((found - exact).norm() / exact.norm())


if __name__ == "__main__":
    main()
