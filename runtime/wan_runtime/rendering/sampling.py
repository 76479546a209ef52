"""From noise to latents: Euler steps of flow matching with classifier-free guidance.

The same steps as diffsynth's `FlowMatchScheduler("Wan")`, in float32 throughout. diffsynth's own
loop cannot be left, has one guidance for both experts, and switches them where the text-to-video
model does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wan_runtime.contract.job import Expert
from wan_runtime.models.dit.forward import Conditions, predict_velocity
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.flow import shifted_grid
from wan_runtime.presets import SPATIAL_STRIDE, TEMPORAL_STRIDE, Preset
from wan_runtime.rendering.order import VideoOrder

# Shapes: C channels, T latent frames, H W latent rows and columns.

CHANNELS = 16
"""Of the latents."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """What a video is conditioned on."""

    positive: Conditions
    negative: Conditions | None
    """None: no step is guided."""


def initial_noise(order: VideoOrder) -> Tensor:
    """[1, 16, T, H, W] float32, from the CPU's generator: the same on all machines and for any
    number of ranks."""
    generator = torch.Generator().manual_seed(order.seed)
    frames = (order.frames - 1) // TEMPORAL_STRIDE + 1
    side = SPATIAL_STRIDE // 2
    shape = (1, CHANNELS, frames, order.size.height // side, order.size.width // side)
    return torch.randn(shape, generator=generator)


def experts_of(preset: Preset, order: VideoOrder) -> list[tuple[float, Expert, float]]:
    """(sigma, expert, guidance) of each step: the low-noise expert below the boundary, as
    Wan2.2's `_prepare_model_for_timestep`."""
    sigmas = shifted_grid(order.shift, order.steps)
    if preset.boundary is None:
        return [(float(sigma), preset.experts[0], order.guidance) for sigma in sigmas]
    high = (Expert.HIGH_NOISE, order.guidance)
    low = (Expert.LOW_NOISE, order.guidance_low)
    # Compared as diffsynth does, in timesteps.
    return [
        (float(sigma), *(low if sigma * 1000 < preset.boundary * 1000 else high))
        for sigma in sigmas
    ]


@torch.no_grad()
def denoise(
    transformer: Callable[[Expert], Any],
    preset: Preset,
    order: VideoOrder,
    prompted: Prompted,
    ranks: Ranks,
    device: torch.device,
    dtype: torch.dtype,
    before_step: Callable[[int], None],
) -> Tensor:
    """Clean latents [1, 16, T, H, W], float32, alike on all ranks.

    Args:
        transformer: makes an expert's ready; asked when it is its turn.
        before_step: called on all ranks with the steps done; what it raises ends the video.
    """
    plan = experts_of(preset, order)
    x = initial_noise(order).to(device)
    dit, at_work = None, None
    for number, (sigma, expert, guidance) in enumerate(plan):
        before_step(number)
        if expert is not at_work:
            dit, at_work = transformer(expert), expert
        velocity = _velocity(dit, x, sigma, prompted, guidance, ranks, dtype)
        following = plan[number + 1][0] if number + 1 < len(plan) else 0.0
        x = x + velocity * (following - sigma)
    return x


def is_guided(preset: Preset, order: VideoOrder) -> bool:
    """Whether any step has a second pass."""
    return any(guidance != 1.0 for _, _, guidance in experts_of(preset, order))


def _velocity(
    dit: Any,
    x: Tensor,
    sigma: float,
    prompted: Prompted,
    guidance: float,
    ranks: Ranks,
    dtype: torch.dtype,
) -> Tensor:
    """Guided, on all ranks. Guidance 1 is the positive pass alone."""
    guided = guidance != 1.0
    shard = ranks.split_tokens(ranks.half if guided else ranks.everyone)

    def predict(conditions: Conditions | None) -> Tensor:
        assert conditions is not None
        return predict_velocity(dit, x, torch.tensor([sigma]), conditions, dtype=dtype, shard=shard)

    if not guided:
        return predict(prompted.positive)
    if ranks.pair.size == 2:
        mine = prompted.positive if ranks.pair.index == 0 else prompted.negative
        positive, negative = ranks.gather_halves(predict(mine))
    else:
        positive, negative = predict(prompted.positive), predict(prompted.negative)
    return negative + guidance * (positive - negative)
