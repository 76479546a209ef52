"""What a training step draws: clips, captions, noise levels and noise.

Every rank draws all of the step, in one order, and computes its share: how many ranks there are
changes nothing that is drawn, and a run goes on from its checkpoint on another number of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wan_runtime.contract.strides import latents_shape
from wan_runtime.contract.training import TrainingSpec
from wan_runtime.data.latents import EncodedClip, Entry
from wan_runtime.models.dit.parallel import Group
from wan_runtime.models.flow import NoiseLevels
from wan_runtime.training.sampler import Sampler, drops_caption

# Shapes: B clips of a part, C channels, T latent frames, H W latent rows and columns.


@dataclass(frozen=True, slots=True)
class Part:
    """Clips of one bucket that go through the transformer together, and what was drawn for
    them."""

    index: int
    """Place among all parts of the step."""
    clips: list[EncodedClip]
    sigmas_B: Tensor
    weights_B: Tensor
    """Weights of the losses."""
    noise_BCTHW: Tensor


class Draws:
    """The draws of one run, of which this rank computes its share."""

    def __init__(
        self,
        clips: list[EncodedClip],
        empty_text: Entry,
        levels: NoiseLevels,
        spec: TrainingSpec,
        data: Group,
    ) -> None:
        """
        Args:
            clips: all that are trained on.
            data: the ranks that take different clips. Their number divides the clips of a step,
                and each takes as many, in as many parts.
        """
        self.clips, self.levels = clips, levels
        self._empty_text, self._spec = empty_text, spec
        self._sampler = Sampler([clip.bucket for clip in clips], spec.seed, spec.batch_size)
        self.clips_a_step = spec.batch_size * spec.gradient_accumulation
        self._size, count = spec.parts(data.size)
        self.parts = data.size * count
        """Number of parts of a step, of all ranks. All are of equal size."""
        self._mine = range(data.index * count, (data.index + 1) * count)

    def step(self, position: int, generator: torch.Generator) -> Iterator[Part]:
        """This rank's parts of the next step, one after another; drawn whole once all are taken.

        Args:
            position: clips drawn before it.
            generator: on the CPU, of the levels and the noise.
        """
        self._sampler.position = position
        number = 0
        for _ in range(self._spec.gradient_accumulation):
            clips = self._take()
            sigmas, weights = self.levels.draw(len(clips), generator)
            bucket = clips[0].bucket
            shape = latents_shape(bucket.frames, bucket.height, bucket.width)
            noise = torch.randn(len(clips), *shape, generator=generator)
            for first in range(0, len(clips), self._size):
                here = slice(first, first + self._size)
                if number in self._mine:
                    yield Part(number, clips[here], sigmas[here], weights[here], noise[here])
                number += 1

    def _take(self) -> list[EncodedClip]:
        """Clips of the next batch, some with the empty caption."""
        seed, share, first = self._spec.seed, self._spec.caption_dropout, self._sampler.position
        chosen = []
        for place, index in enumerate(self._sampler.take(), start=first):
            clip = self.clips[index]
            if drops_caption(seed, place, share):
                clip = clip.model_copy(update={"text": self._empty_text})
            chosen.append(clip)
        return chosen
