"""Previews: what the weights make of a held-out first frame while training runs.

Sampled with the transformer that is being trained and conditions from the cache; only the VAE comes
into memory, and leaves again. An expert of a pair samples its own share of the noise levels: the
high-noise one from pure noise, finished by a straight step to the clean video it predicts at the
boundary; the low-noise one from the clip itself, noised to the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.data.latents import EncodedClip, Latents, LocalCache, pad_text
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.parallel import Mesh, Ranks, alone
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.encoders import VideoDecoder
from wan_runtime.models.flow import add_noise
from wan_runtime.models.layout import ModelFiles
from wan_runtime.presets import preset_of
from wan_runtime.rendering.media import Frames, quantize, write_mp4
from wan_runtime.rendering.sampling import Prompted, Step, denoise, noise, schedule
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
    ranks: Mesh

    def make(self, transformer: Transformer, step: int) -> Frames | None:
        """Render, store as `previews/step-00000050.mp4` of this step's output, and return the
        frames [F, H, W, 3]; on other ranks than the first, which share the sampling where they can,
        None. Collective.

        Leaves random states and the training mode as they were.
        """
        sampling = self._ranks(transformer)
        alike = sampling.world == self.ranks.world or transformer.gathers
        if self.ranks.rank and not alike:
            return None
        with transformer.evaluated():
            latents = self._sample(transformer, self.latents.probed[0], sampling)
        if self.ranks.rank:
            return None
        frames = self._decode(latents)
        name = f"{name_of(step)}.mp4"
        write_mp4(frames, self.work / name, finetune_of(self.job).dataset.fps)
        self.store.put_file(f"{self.job.output_prefix}/previews/{name}", self.work / name)
        return frames

    def _ranks(self, transformer: Transformer) -> Ranks:
        """All ranks, if they can share the attention heads of a step with guidance; else one."""
        ranks = self.ranks.video
        try:
            transformer.check_heads(ranks.half.shares)
        except ValueError:
            return alone()
        return ranks if preset_of(self.job).guidance != 1.0 else alone()

    def _sample(self, transformer: Transformer, clip: EncodedClip, ranks: Ranks) -> Tensor:
        """Clean latents [1, 16, T, H, W]."""
        batch = load_batch(self.cache, [clip], self.device, self.dtype)
        steps = schedule_of(self.job)
        seen = noise(batch.clean_BCTHW.shape, finetune_of(self.job).sample.seed).to(self.device)
        return denoise(
            lambda expert: transformer,
            steps,
            add_noise(batch.clean_BCTHW, seen, torch.tensor([steps[0].sigma])),
            Prompted(batch.conditions, self._negative(batch.conditions)),
            ranks,
        )

    def _negative(self, conditions: Conditions) -> Conditions:
        context = pad_text(self.cache.load(self.latents.negative_text)["context"])[None]
        return Conditions(
            context.to(self.device, self.dtype), conditions.y_BCTHW, conditions.clip_BLD
        )

    def _decode(self, clean_BCTHW: Tensor) -> Frames:
        tiled = finetune_of(self.job).training.tiled_vae
        video = VideoDecoder(self.files, self.dtype, self.device, tiled=tiled)
        pixels = video.decode(clean_BCTHW).numpy()
        del video
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return quantize(pixels)


def schedule_of(job: JobSpec) -> list[Step]:
    """Steps of the official schedule, `inference_steps` over the whole range, that the job's expert
    takes; the low-noise expert starts at the boundary itself.
    """
    preset = preset_of(job)
    guidance = preset.guidance
    steps = finetune_of(job).sample.inference_steps
    whole = schedule(preset, preset.shift, steps, guidance, guidance)
    own = [step for step in whole if step.expert is job.expert]
    if job.expert is not Expert.LOW_NOISE:
        return own
    return [Step(preset.expert_range(job.expert)[1], job.expert, guidance), *own]
