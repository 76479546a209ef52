"""Flow matching as Wan was trained: which noise levels, which target, which weight.

x_t = (1 - sigma) x_0 + sigma * noise, timestep = 1000 sigma, target v = noise - x_0 (Lipman et al.
2023, eq. 23, in Wan's direction of time). Noise levels are drawn from the shifted grid that
diffsynth's training scheduler holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.presets import NUM_TRAIN_TIMESTEPS, Preset

# Shapes: N grid points, B batch, C channels, T latent frames, H W latent rows and columns.


@dataclass(frozen=True, slots=True)
class NoiseLevels:
    """The grid of one expert. float32 on the CPU throughout: bfloat16 would leave 26 of 358 values
    apart.
    """

    sigmas: Tensor
    """[N], falling, in (0, 1]."""
    weights: Tensor
    """[N], mean 1."""

    @classmethod
    def build(
        cls,
        preset: Preset,
        expert: Expert = Expert.ONLY,
        weighting: Literal["Uniform", "Bell"] = "Uniform",
    ) -> NoiseLevels:
        """Levels that `expert` handles.

        A Wan2.2 pair splits where its sampler does: timestep >= boundary * 1000 is the high-noise
        expert's (Wan2.2 `wan/image2video.py`, `_prepare_model_for_timestep`). With shift 5 and
        1,000 steps, that is index 358.
        """
        sigmas = shifted_grid(preset.shift)
        weights = bell(sigmas) if weighting == "Bell" else torch.ones_like(sigmas)
        lower, upper = preset.expert_range(expert)
        inside = (sigmas >= lower) & (
            sigmas <= upper if expert is not Expert.LOW_NOISE else sigmas < upper
        )
        if not inside.any():
            raise InputError(
                Reason.MODEL_INVALID, f"{preset.name} has no noise level for expert {expert}"
            )
        # The mean within the expert is 1, so that weighting does not silently scale its learning
        # rate.
        return cls(sigmas[inside], weights[inside] / weights[inside].mean())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` levels, uniform over the grid: sigmas [count] and loss weights [count]."""
        index = torch.randint(len(self.sigmas), (count,), generator=generator)
        return self.sigmas[index], self.weights[index]

    def quantile(self, fraction: float) -> float:
        """The sigma below which `fraction` of the draws lie."""
        rising = self.sigmas.flip(0)
        return float(rising[min(int(fraction * len(rising)), len(rising) - 1)])


def shifted_grid(shift: float, count: int = NUM_TRAIN_TIMESTEPS) -> Tensor:
    """[count] sigmas s*u / (1 + (s - 1) u), u from 1 down to 1/count: diffsynth's
    `set_timesteps_wan(count)`.
    """
    uniform = torch.linspace(1.0, 0.0, count + 1)[:-1]
    return shift * uniform / (1 + (shift - 1) * uniform)


def bell(sigmas: Tensor) -> Tensor:
    """diffsynth's loss weight: a Gaussian around t = 500, shifted to 0 at its least
    (`set_training_weight`).
    """
    weight = torch.exp(-2 * (sigmas - 0.5) ** 2)
    weight = weight - weight.min()
    return weight / weight.mean()


def add_noise(clean: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """x_t [B, C, T, H, W] from clean latents, noise of the same shape, and sigmas [B]; float32."""
    sigma = sigmas.to(clean.device, torch.float32).view(-1, 1, 1, 1, 1)
    return (1 - sigma) * clean.float() + sigma * noise.float()


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """The target noise - x_0, float32."""
    return noise.float() - clean.float()
