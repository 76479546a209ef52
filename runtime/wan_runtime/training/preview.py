"""A short look, while training runs, at what the weights make of a held-out first frame.

Sampled with the transformer that is being trained and conditions from the cache; only the VAE comes
into memory, and leaves again. An expert of a pair samples its own share of the noise levels: the
high-noise one from pure noise, finished by a straight step to the clean video it predicts at the
boundary; the low-noise one from the clip itself, noised to the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import Expert, JobSpec
from wan_runtime.data.latents import EncodedClip, Latents, LocalCache, pad_text
from wan_runtime.models.dit.forward import Conditions, predict_velocity
from wan_runtime.models.encoders import TILE_SIZE, TILE_STRIDE
from wan_runtime.models.flow import add_noise
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import load_vae
from wan_runtime.models.source import preset_of
from wan_runtime.rendering.media import Frames, quantize, write_mp4
from wan_runtime.training.batches import load_batch
from wan_runtime.training.checkpoint import name_of

# Shapes: B batch of 1, C channels, T latent frames, H W latent rows and columns.


@dataclass(frozen=True, slots=True)
class Previews:
    """Renders one clip the same way at each call: equal noise, prompt and levels."""

    job: JobSpec
    store: Store
    work: Path
    files: ModelFiles
    latents: Latents
    cache: LocalCache
    device: torch.device
    dtype: torch.dtype

    def make(self, dit: Any, step: int) -> Frames:
        """Render, store as `previews/step-00000050.mp4` of this step's output, and return the
        frames [F, H, W, 3].

        Leaves random states and the training mode as they were.
        """
        clip = self.latents.probed[0]
        training = dit.training
        dit.eval()
        frames = self._decode(self._sample(dit, clip))
        dit.train(training)
        name = f"{name_of(step)}.mp4"
        write_mp4(frames, self.work / name, self.job.dataset.fps)
        self.store.put_file(f"{self.job.output_prefix}/previews/{name}", self.work / name)
        return frames

    @torch.no_grad()
    def _sample(self, dit: Any, clip: EncodedClip) -> Tensor:
        """Clean latents [1, 16, T, H, W]: Euler steps with classifier-free guidance."""
        batch = load_batch(self.cache, [clip], self.device, self.dtype)
        negative = self._negative(batch.conditions)
        guidance = preset_of(self.job).guidance
        generator = torch.Generator().manual_seed(self.job.sample.seed)
        noise = torch.randn(batch.clean_BCTHW.shape, generator=generator).to(self.device)
        sigmas = sampling_levels(self.job)
        x = add_noise(batch.clean_BCTHW, noise, torch.tensor([sigmas[0]]))
        for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            with_prompt, without = (
                predict_velocity(dit, x, torch.tensor([sigma]), conditions, dtype=self.dtype)
                for conditions in (batch.conditions, negative)
            )
            x = x + (following - sigma) * (without + guidance * (with_prompt - without))
        return x

    def _negative(self, conditions: Conditions) -> Conditions:
        context = pad_text(self.cache.load(self.latents.negative_text)["context"])[None]
        return Conditions(
            context.to(self.device, self.dtype), conditions.y_BCTHW, conditions.clip_BLD
        )

    def _decode(self, clean_BCTHW: Tensor) -> Frames:
        vae: Any = load_vae(self.files, self.dtype, self.device)
        tiling = {"tile_size": TILE_SIZE, "tile_stride": TILE_STRIDE}
        with torch.no_grad():
            video = vae.decode(
                clean_BCTHW.to(self.dtype), self.device, tiled=self.job.training.tiled_vae, **tiling
            )
        del vae
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return quantize(video[0].permute(1, 2, 3, 0).float().cpu().numpy())


def sampling_levels(job: JobSpec) -> list[float]:
    """Falling sigmas of the official schedule, `inference_steps` over the whole range, that the
    job's expert handles; the low-noise expert starts at the boundary itself.
    """
    preset, steps = preset_of(job), job.sample.inference_steps
    uniform = [1 - number / steps for number in range(steps)]
    shifted = [preset.shift * u / (1 + (preset.shift - 1) * u) for u in uniform]
    lower, upper = preset.expert_range(job.expert)
    if job.expert is Expert.LOW_NOISE:
        return [upper, *(sigma for sigma in shifted if sigma < upper)]
    return [sigma for sigma in shifted if sigma >= lower]
