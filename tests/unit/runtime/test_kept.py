"""Blocks that keep what their attention found: the gradients of a trained transformer."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusers_peer import SIGMA, random_inputs
from wan_runtime.contract.training import KEEPING, Keeping, LoraSpec
from wan_runtime.errors import InputError
from wan_runtime.models.dit import gradients as gradients_of
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.host import HostCopies, Key, Ticket
from wan_runtime.models.dit.kept import KeptBlocks
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
LORA = LoraSpec(rank=4, alpha=2.0)


Gradients = dict[str, Tensor]


def trained(
    files: ModelFiles, method: str, keeping: Keeping | None
) -> tuple[Transformer, dict[str, torch.nn.Parameter]]:
    made = Transformer.load(files, files.preset.experts[-1], CPU, torch.float32, keeping=keeping)
    if method == "full":
        return made, made.unfreeze()
    parameters = made.add_lora(LORA, seed=1)
    draw = torch.Generator().manual_seed(2)
    for each in parameters.values():  # B is zero at first, and A then has no gradient
        each.data = torch.randn(each.shape, generator=draw) * 0.05
    return made, parameters


def gradients(files: ModelFiles, method: str, keeping: Keeping | None) -> tuple[Tensor, Gradients]:
    """(velocity, gradients by parameter) of a batch of two."""
    made, parameters = trained(files, method, keeping)
    noisy, one = random_inputs(clip=files.preset.uses_clip)
    clip = None if one.clip_BLD is None else torch.cat([one.clip_BLD, one.clip_BLD.flip(1)])
    two = Conditions(
        torch.cat([one.context_BLD, one.context_BLD.flip(1)]),
        torch.cat([one.y_BCTHW, -one.y_BCTHW]),
        clip,
    )
    found = made.begin(two).velocity(torch.cat([noisy, noisy.flip(2)]), torch.tensor([0.9, 0.3]))
    found.pow(2).mean().backward()
    return found.detach(), {n: p.grad for n, p in parameters.items() if p.grad is not None}


def worst(found: Gradients, wanted: Gradients) -> float:
    """Largest relative difference of a parameter's gradient; of one that is next to nothing, in
    units of a thousandth of the largest."""
    assert found.keys() == wanted.keys()
    largest = max(float(each.norm()) for each in wanted.values())
    return max(
        float((found[name] - each).norm()) / max(float(each.norm()), 1e-3 * largest)
        for name, each in wanted.items()
    )


@pytest.mark.parametrize(
    ("model", "method"), [("tiny21", "lora"), ("tiny21", "full"), ("tiny22", "lora")]
)
def test_gradients_are_those_of_autograd(
    model: str, method: str, request: pytest.FixtureRequest
) -> None:
    files = request.getfixturevalue(model)
    plain, wanted = gradients(files, method, None)
    for keeping in KEEPING:
        kept, found = gradients(files, method, keeping)
        assert float((kept - plain).norm() / plain.norm()) < 2e-6
        assert worst(found, wanted) < 2e-4


def test_attention_is_not_computed_again(
    tiny22: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[int] = []

    def counted(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        tokens.append(k.shape[1])
        return gradients_of.CPU.forward(q, k, v, heads)

    attention = replace(gradients_of.CPU, forward=counted)
    monkeypatch.setattr(gradients_of, "choose", lambda device, own: attention)
    made, _ = trained(tiny22, "lora", "KeepAttention")
    noisy, conditions = random_inputs(clip=False)
    made.begin(conditions).velocity(noisy, SIGMA).sum().backward()
    own = [count for count in tokens if count == noisy[0, 0].numel() // 4]
    assert len(own) == len(made._module.blocks)
    assert len(tokens) == 3 * len(own), "that of the texts is, for it is cheap"


@pytest.mark.parametrize(
    ("free", "there"), [(200, 4), (100, 4), (56, 2), (55, 1), (40, 0)], ids=str
)
def test_what_fits_stays_on_the_device(
    free: int, there: int, tiny22: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 200 units, 12 stay free, the inputs of 4 blocks take 4, and the block at work 38."""
    made, _ = trained(tiny22, "lora", "KeepAttention")
    kept = made._kept
    assert kept is not None
    assert len(made._module.blocks) == 4
    unit, device = 1000, torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: ((free - 1) * unit, 200 * unit))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * unit)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2 * unit)
    hidden: Any = SimpleNamespace(nbytes=unit, device=device)
    kept._place(hidden, 38 * unit)
    assert kept.on_device == there
    assert [kept.keeps_found(index) for index in range(4)] == [
        index >= 4 - there for index in range(4)
    ]


def test_gradients_of_what_waits_in_part_are_the_same(
    tiny22: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, wanted = gradients(tiny22, "lora", "KeepAttention")
    put, real = [], HostCopies.put

    def counted(copies: HostCopies, key: Key, tensor: Tensor) -> Ticket:
        put.append(key)
        return real(copies, key, tensor)

    monkeypatch.setattr(HostCopies, "put", counted)
    monkeypatch.setattr(KeptBlocks, "_place", lambda kept, *_: setattr(kept, "on_device", 1))
    kept, found = gradients(tiny22, "lora", "KeepAttention")
    assert put == [("found", index) for index in range(3)]
    assert torch.equal(kept, plain)
    assert all(torch.equal(found[name], each) for name, each in wanted.items())


def test_nothing_is_kept_of_a_pass_without_gradients(tiny22: ModelFiles) -> None:
    made, _ = trained(tiny22, "lora", "Offload")
    noisy, conditions = random_inputs(clip=False)
    with torch.no_grad():
        without = made.begin(conditions).velocity(noisy, SIGMA)
    assert made._kept is not None
    assert not made._kept.copies._buffers
    assert torch.equal(made.begin(conditions).velocity(noisy, SIGMA), without)
    assert made._kept.copies._buffers


def test_what_another_pass_has_overwritten_is_no_gradient(tiny22: ModelFiles) -> None:
    made, _ = trained(tiny22, "lora", "Offload")
    noisy, conditions = random_inputs(clip=False)
    first = made.begin(conditions).velocity(noisy, SIGMA)
    made.begin(conditions).velocity(noisy, SIGMA)
    with pytest.raises(RuntimeError, match="overwritten before its gradient was computed"):
        first.sum().backward()


def test_dropout_is_refused(tiny22: ModelFiles) -> None:
    expert = tiny22.preset.experts[0]
    made = Transformer.load(tiny22, expert, CPU, torch.float32, keeping="KeepAttention")
    with pytest.raises(InputError, match="without dropout"):
        made.add_lora(LoraSpec(dropout=0.1), seed=0)
