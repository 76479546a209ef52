"""From noise to latents: Euler steps of flow matching with classifier-free guidance.

The same steps as diffsynth's `FlowMatchScheduler("Wan")`, in float32 throughout. diffsynth's own
loop cannot be left, has one guidance for both experts, and switches them where the text-to-video
model does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wan_runtime.contract.service import Profile
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.strides import latents_shape
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.dit.tokens import split_over
from wan_runtime.models.dit.transformer import Pass, Transformer
from wan_runtime.models.flow import shifted_grid
from wan_runtime.presets import Preset
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.rendering.step_cache import Caching, StepCache

# Shapes: C channels, T latent frames, H W latent rows and columns.


@dataclass(frozen=True, slots=True)
class Prompted:
    """What a video is conditioned on."""

    positive: Conditions
    negative: Conditions | None
    """None: no step is guided."""


class Step(NamedTuple):
    """One step of a schedule."""

    sigma: float
    """Noise level that it starts from; it ends at the next step's, the last one at 0."""
    expert: Expert
    guidance: float
    """Scale of classifier-free guidance; 1: the positive pass alone."""


def noise(shape: Sequence[int], seed: int) -> Tensor:
    """Noise of this shape, float32, from the CPU's generator: the same on all machines and for any
    number of ranks."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def initial_noise(order: VideoOrder) -> Tensor:
    """Noise that a video starts from, [1, 16, T, H, W] float32."""
    shape = latents_shape(order.frames, order.size.height, order.size.width)
    return noise((1, *shape), order.seed)


def schedule(
    preset: Preset, shift: float, steps: int, guidance: float, guidance_low: float
) -> list[Step]:
    """Steps from noise to a video: the low-noise expert below the boundary, as Wan2.2's
    `_prepare_model_for_timestep`."""
    sigmas = shifted_grid(shift, steps)
    if preset.boundary is None:
        return [Step(float(sigma), preset.experts[0], guidance) for sigma in sigmas]
    high = (Expert.HIGH_NOISE, guidance)
    low = (Expert.LOW_NOISE, guidance_low)
    # Compared as diffsynth does, in timesteps.
    return [
        Step(float(sigma), *(low if sigma * 1000 < preset.boundary * 1000 else high))
        for sigma in sigmas
    ]


def schedule_of(preset: Preset, order: VideoOrder) -> list[Step]:
    """Steps of an ordered video."""
    return schedule(preset, order.shift, order.steps, order.guidance, order.guidance_low)


@torch.no_grad()
def denoise(
    transformer: Callable[[Expert], Transformer],
    steps: Sequence[Step],
    x: Tensor,
    prompted: Prompted,
    ranks: Ranks,
    profile: Profile | None = None,
    before_step: Callable[[int], None] = lambda number: None,
    caching: Caching | None = None,
) -> Tensor:
    """Clean latents [1, 16, T, H, W], float32, alike on all ranks.

    Args:
        transformer: returns an expert's, ready to work. Called when its turn comes.
        x: latents [1, 16, T, H, W], float32, at the first step's noise level.
        profile: of this video, see `Transformer.choose`.
        before_step: called on all ranks with the steps done; what it raises ends the video.
        caching: decides by the profile which steps take their velocity from earlier ones; without
            it, all are computed.
    """
    passes: list[Pass] = []
    cache: StepCache | None = None
    at_work: tuple[Expert, bool] | None = None
    sigmas, experts = [step.sigma for step in steps], [step.expert for step in steps]
    for number, (sigma, expert, guidance) in enumerate(steps):
        before_step(number)
        wanted = (expert, guidance != 1.0)
        if wanted != at_work:
            working = transformer(expert)
            passes = _begin(working, prompted, wanted[1], ranks, profile)
            at_work = wanted
            cache = None
            if caching is not None:
                cache = caching.begin(profile, sigmas, experts, working.modulation)
        made = None
        # One rank decides: another that decided otherwise would be waited for without end.
        if cache is not None and ranks.broadcast(cache.allows(number, x, sigma)):
            made = cache.reuse(x, sigma)
        if made is None:
            made = _velocities(passes, x, sigma, wanted[1], ranks)
            if cache is not None:
                cache.learn(x, sigma, made)
        velocity = _guided(made, guidance)
        following = steps[number + 1].sigma if number + 1 < len(steps) else 0.0
        x = x + velocity * (following - sigma)
    return x


def _begin(
    transformer: Transformer,
    prompted: Prompted,
    guided: bool,
    ranks: Ranks,
    profile: Profile | None,
) -> list[Pass]:
    """Passes that this rank computes of each step, the positive one first."""
    tokens = split_over(ranks.half if guided else ranks.everyone)
    wanted = [prompted.positive]
    if guided:
        assert prompted.negative is not None
        wanted.append(prompted.negative)
        if ranks.pair.size == 2:
            wanted = [wanted[ranks.pair.index]]
    # Each rank's own timing could come out otherwise, and ranks would round in two ways.
    choice = ranks.decided(
        lambda: transformer.choose(prompted.positive, tokens=tokens, profile=profile)
    )
    return [transformer.begin(each, tokens=tokens, choice=choice) for each in wanted]


def _velocities(
    passes: Sequence[Pass], x: Tensor, sigma: float, guided: bool, ranks: Ranks
) -> list[Tensor]:
    """The positive branch's and, where there is guidance, the negative one's; on all ranks."""
    made = [each.velocity(x, torch.tensor([sigma])) for each in passes]
    return list(ranks.gather_halves(made[0])) if guided and len(made) == 1 else made


def _guided(made: Sequence[Tensor], guidance: float) -> Tensor:
    if len(made) == 1:
        return made[0]
    positive, negative = made
    return negative + guidance * (positive - negative)
