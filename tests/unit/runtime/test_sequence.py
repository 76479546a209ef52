"""Ranks that split the tokens of a training step: its gradients are those of one rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from forked_ranks import on_ranks
from wan_runtime.contract.training import KEEPING, Checkpointing, Keeping, LoraSpec
from wan_runtime.models.dit import gradients as gradients_of
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.dit.tokens import split_over
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
POLICIES: tuple[Checkpointing, ...] = ("None", "Full", "KeepAttention", "Offload")
BOUND = 5e-5
"""Largest relative difference of a parameter's gradient. Measured: 1e-5."""
Found = tuple[Tensor, dict[str, Tensor]]
"""Velocity, and gradients by parameter."""


def inputs(*, clip: bool) -> tuple[Tensor, Tensor, Conditions]:
    """Two clips of 27 tokens, which no number of ranks divides."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    conditions = Conditions(
        normal(2, 512, 64), normal(2, 20, 3, 6, 6), normal(2, 257, 1280) if clip else None
    )
    return normal(2, 16, 3, 6, 6), torch.tensor([0.9, 0.3]), conditions


class Trained:
    """A transformer under one policy, and what is trained of it."""

    def __init__(
        self, files: ModelFiles, method: str, policy: Checkpointing, *, float8: bool = False
    ) -> None:
        keeping: Keeping | None = next((each for each in KEEPING if each == policy), None)
        self.recompute = policy == "Full"
        self.inputs = inputs(clip=files.preset.uses_clip)
        expert = files.preset.experts[-1]
        self.transformer = Transformer.load(
            files, expert, CPU, torch.float32, keeping=keeping, float8=float8
        )
        if method == "full":
            self.parameters = self.transformer.unfreeze()
            return
        self.parameters = self.transformer.add_lora(LoraSpec(rank=4, alpha=2.0), seed=1)
        draw = torch.Generator().manual_seed(2)
        for each in self.parameters.values():  # B is zero at first, and A then has no gradient
            each.data = torch.randn(each.shape, generator=draw) * 0.05

    def gradients(self, ranks: Ranks | None = None) -> Found:
        noisy, sigmas, conditions = self.inputs
        through = self.transformer.begin(
            conditions,
            tokens=None if ranks is None else split_over(ranks.everyone),
            recompute=self.recompute,
        )
        velocity = through.velocity(noisy, sigmas)
        velocity.pow(2).mean().backward()
        found = {name: each.grad for name, each in self.parameters.items() if each.grad is not None}
        if ranks is not None:
            flat = torch.cat([gradient.flatten() for gradient in found.values()])
            dist.all_reduce(flat)
            parts = flat.split([gradient.numel() for gradient in found.values()])
            found = {
                name: part.view_as(gradient)
                for (name, gradient), part in zip(found.items(), parts, strict=True)
            }
        return velocity.detach(), found


def worst(found: Found, wanted: Found) -> tuple[float, float]:
    """Relative difference of the velocity, and the largest of a parameter's gradient; of one that
    is next to nothing, in units of a thousandth of the largest."""
    (velocity, grads), (its, others) = found, wanted
    assert grads.keys() == others.keys()
    largest = max(float(each.norm()) for each in others.values())
    return float((velocity - its).norm() / its.norm()), max(
        float((grads[name] - each).norm()) / max(float(each.norm()), 1e-3 * largest)
        for name, each in others.items()
    )


@pytest.mark.parametrize(
    ("model", "method", "world"),
    [("tiny21", "lora", 2), ("tiny21", "full", 2), ("tiny22", "lora", 4)],
)
def test_gradients_are_those_of_one_rank(
    model: str, method: str, world: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    files = request.getfixturevalue(model)
    trained = {policy: Trained(files, method, policy) for policy in POLICIES}
    wanted = Trained(files, method, "None").gradients()

    def compare(ranks: Ranks) -> dict[str, tuple[float, float]]:
        return {policy: worst(each.gradients(ranks), wanted) for policy, each in trained.items()}

    for found in on_ranks(world, tmp_path, compare):
        assert isinstance(found, dict), found
        for policy, (velocity, gradient) in found.items():
            assert velocity < 2e-6, policy
            assert gradient < BOUND, policy


def test_gradients_above_base_weights_in_8_bits_are_those_of_one_rank(
    tiny22: ModelFiles, tmp_path: Path
) -> None:
    trained, alone = (Trained(tiny22, "lora", "KeepAttention", float8=True) for _ in range(2))
    wanted = alone.gradients()
    for found in on_ranks(2, tmp_path, lambda ranks: worst(trained.gradients(ranks), wanted)):
        assert isinstance(found, tuple), found
        assert max(found) < BOUND


def test_attention_is_not_computed_again_by_ranks(
    tiny22: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[torch.Size] = []

    def counted(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        shapes.append(q.shape)
        return gradients_of.CPU.forward(q, k, v, heads)

    attention = replace(gradients_of.CPU, forward=counted)
    monkeypatch.setattr(gradients_of, "choose", lambda device, own: attention)
    trained = Trained(tiny22, "lora", "KeepAttention")

    def count(ranks: Ranks) -> tuple[int, int]:
        shapes.clear()
        trained.gradients(ranks)
        own = [shape for shape in shapes if shape == (2, 27, 64)]
        return len(own), len(shapes) - len(own)

    layers = len(trained.transformer._module.blocks)
    assert on_ranks(2, tmp_path, count) == [(layers, 2 * layers)] * 2, (
        "of half the heads, once a block; that of the texts is, for it is cheap"
    )
