"""What the ranks of a training step draw, together, is what one rank draws."""

from __future__ import annotations

import pytest
import torch

from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.strides import latents_shape
from wan_runtime.contract.training import TrainingSpec
from wan_runtime.data.latents import EncodedClip, Entry
from wan_runtime.models.dit.parallel import Group
from wan_runtime.models.flow import NoiseLevels
from wan_runtime.presets import PRESETS
from wan_runtime.training.draws import Draws, Part

SPEC = TrainingSpec(batch_size=4, gradient_accumulation=3, caption_dropout=0.4, seed=5)
STEPS = 3


def entry(name: str) -> Entry:
    return Entry(key=name, bytes=1, sha256="0" * 64)


def clip(number: int) -> EncodedClip:
    """Of two buckets, neither of which fills whole batches in a pass."""
    bucket = (
        Bucket(width=32, height=16, frames=5)
        if number < 6
        else Bucket(width=16, height=16, frames=9)
    )
    return EncodedClip(
        path=f"{number}.mp4", sha256=f"{number:064x}", prompt="", source=str(number), split="Train",
        bucket=bucket, text=entry(f"text{number}"), video=entry("video"), image=entry("image"),
    )  # fmt: skip


def drawn(ranks: int) -> tuple[list[list[Part]], list[torch.Tensor]]:
    """Parts of each rank over some steps, and its generator's state after them."""
    levels = NoiseLevels.build(PRESETS["Wan2.1-I2V-Tiny"], weighting="Bell")
    parts, states = [], []
    for index in range(ranks):
        group = Group(tuple(range(ranks)), index)
        draws = Draws([clip(number) for number in range(11)], entry("empty"), levels, SPEC, group)
        generator = torch.Generator().manual_seed(1)
        taken = [
            part
            for step in range(STEPS)
            for part in draws.step(step * draws.clips_a_step, generator)
        ]
        assert len(taken) == STEPS * draws.parts // ranks
        assert all(
            part.noise_BCTHW.shape[1:] == latents_shape(bucket.frames, bucket.height, bucket.width)
            for part in taken
            for bucket in [part.clips[0].bucket]
        )
        parts.append(taken)
        states.append(generator.get_state())
    return parts, states


def flat(parts: list[list[Part]]) -> list[tuple[EncodedClip, float, float, bytes]]:
    """Each clip that is drawn, and what is drawn for it, in the order of one rank."""
    steps = [
        sorted((part for rank in parts for part in each(rank, step)), key=lambda part: part.index)
        for step in range(STEPS)
    ]
    return [
        (one, float(sigma), float(weight), noise.numpy().tobytes())
        for step in steps
        for part in step
        for one, sigma, weight, noise in zip(
            part.clips, part.sigmas_B, part.weights_B, part.noise_BCTHW, strict=True
        )
    ]


def each(parts: list[Part], step: int) -> list[Part]:
    count = len(parts) // STEPS
    return parts[step * count : (step + 1) * count]


@pytest.mark.parametrize("ranks", [2, 3, 4, 6, 12])
def test_ranks_share_what_one_rank_draws(ranks: int) -> None:
    (one, (state,)), (many, states) = drawn(1), drawn(ranks)
    assert flat(many) == flat(one), "the same clips, captions, levels and noise; none twice"
    assert all(torch.equal(state, found) for found in states), "each goes on as one would"
    texts = {one.text.key for one, *_ in flat(many)}
    assert "empty" in texts
    assert len(texts) > 2
    sizes = {len(part.clips) for rank in many for part in rank}
    assert len(sizes) == 1, "each rank passes as many clips through as often"
