"""Linear layers in 8 bits, on torch's own product for CPUs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusers_peer import SIGMA, random_inputs
from wan_runtime.contract.service import Profile
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.dit import float8_linear, fused, trial
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
TOKENS, INS, OUTS = 24, 64, 48


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, generator=draw) for shape in ((1, TOKENS, INS), (OUTS, INS), (OUTS,))
    )
    return x, weight, bias


def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return float8_linear.linear(float8_linear.rounded(x), weight, bias)


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_eight_bits_round_by_a_few_percent() -> None:
    x, weight, bias = drawn()
    assert 0.02 < off(layer(x, weight, bias), F.linear(x, weight, bias)[0]) < 0.05


def test_each_row_has_a_scale_of_its_own() -> None:
    x, weight, bias = drawn()
    plain = layer(x, weight, 0 * bias)
    x[:, 3] *= 1e4
    weight[5] *= 1e-4
    found = layer(x, weight, 0 * bias)
    others = [number for number in range(TOKENS) if number != 3]
    assert torch.equal(found[others][:, :5], plain[others][:, :5])
    assert off(found[3, :5], 1e4 * plain[3, :5]) < 1e-6
    assert off(found[others, 5], 1e-4 * plain[others, 5]) < 1e-6


def test_a_token_of_zeros_gives_the_bias() -> None:
    x, weight, bias = drawn()
    assert torch.equal(layer(0 * x, weight, bias), bias.expand(TOKENS, OUTS))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A device on which 8 bits are worth it; shapes of the layers that computed in them."""
    found: list[tuple[int, ...]] = []
    linear = float8_linear.linear

    def noted(x: Any, weight: Tensor, bias: Tensor) -> Tensor:
        found.append(tuple(weight.shape))
        return linear(x, weight, bias)

    def worth_it(*shape: Any) -> bool:
        return shape[-1] in float8_linear.PROFILES

    monkeypatch.setattr(float8_linear, "worth_it", worth_it)
    monkeypatch.setattr(float8_linear, "linear", noted)
    return found


@torch.no_grad()
@pytest.mark.parametrize("model", ["tiny21", "tiny22"])
def test_fast_rounds_the_inner_blocks(
    model: str, taken: list[tuple[int, ...]], request: pytest.FixtureRequest
) -> None:
    files: ModelFiles = request.getfixturevalue(model)
    transformer = Transformer.load(files, files.preset.experts[0], CPU, torch.float32,
                                   profile="Lossless")  # fmt: skip
    noisy, conditions = random_inputs(clip=model == "tiny21")

    def velocity(profile: Profile) -> Tensor:
        choice = transformer.choose(conditions, profile=profile)
        return transformer.begin(conditions, choice=choice).velocity(noisy, SIGMA)

    plain = velocity("Lossless")
    assert torch.equal(velocity("Balanced"), plain)
    assert not taken
    fast = velocity("Fast")
    inner = len(transformer._module.blocks) - 2 * fused.KEPT
    assert len(taken) == 8 * inner, "the layers of the inner blocks, but for keys of texts"
    assert 0.003 < off(fast, plain) < 0.1
    assert torch.equal(velocity("Lossless"), plain)


@torch.no_grad()
def test_an_adapter_is_not_rounded(tiny21: ModelFiles, taken: list[tuple[int, ...]]) -> None:
    """A layer's product of factors is the same beside weights in 8 bits."""
    x, weight, bias = drawn()
    a, b = torch.randn(4, INS), torch.randn(OUTS, 4)
    plain = fused.Linear(weight, bias, None, None)
    given = fused.Input(x, float8_linear.rounded(x))
    added = fused._linear(given, plain._replace(a_RI=a, b_OR=b)) - fused._linear(given, plain)
    assert off(added, x @ a.T @ b.T) < 1e-6
    transformer = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32, profile="Fast")
    noisy, conditions = random_inputs(clip=True)
    going = transformer.begin(conditions)
    base = going.velocity(noisy, SIGMA)
    name = next(each for each in transformer.shapes if each.endswith("1.ffn.0.weight"))
    difference = torch.randn(transformer.shapes[name]) * 0.1
    with transformer.adapted([(Changes("drawn", {}, {name: difference}), 1.0)]):
        assert off(going.velocity(noisy, SIGMA), base) > 0.01, "differences change the weights"
    assert torch.equal(going.velocity(noisy, SIGMA), base)


Layer = Callable[..., Tensor]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """One with products in 8 bits, and how it computes them; in float32 a layer takes a second."""
    facts: dict[str, Any] = {"seconds": 0.5, "layer": float8_linear._layer}
    times: list[Any] = []

    def seconds_of(run: Callable[[], object]) -> float:
        times.append(run)
        return 1.0 if len(times) % 2 else float(facts["seconds"])

    monkeypatch.setattr(float8_linear, "available", lambda *_: True)
    monkeypatch.setattr(float8_linear, "for_any_tokens", lambda _: facts["layer"])
    monkeypatch.setattr(trial, "seconds_of", seconds_of)
    float8_linear.worth_it.cache_clear()
    yield facts
    float8_linear.worth_it.cache_clear()


def worth_it(profile: Profile = "Fast") -> bool:
    return float8_linear.worth_it(CPU, torch.float32, INS, OUTS, TOKENS, profile)


@pytest.mark.parametrize(("seconds", "found"), [(0.5, True), (0.97, False), (2.0, False)])
def test_eight_bits_must_be_faster(device: dict[str, Any], seconds: float, found: bool) -> None:
    device["seconds"] = seconds
    assert worth_it() is found
    assert not worth_it("Balanced")


def exact(tokens: tuple[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(tokens[0], weight, bias)


def wrong(tokens: tuple[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(tokens[0], weight, bias) * 1.1


def torn(tokens: tuple[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    """Leaves a video's last token out."""
    made = float8_linear._layer(tokens, weight, bias)
    made[:, TOKENS - 1 :] = 0
    return made


def failing(*_: Any) -> Tensor:
    raise RuntimeError("no such scaling\nand a long trace")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (exact, "they are not computed in 8 bits"),
        (wrong, "left out: they are wrong"),
        (torn, "left out: they are wrong"),
        (failing, "8-bit linear layers are left out: no such scaling"),
    ],
)
def test_what_is_not_eight_bits_is_left_out(
    device: dict[str, Any], broken: Layer, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    device["layer"] = broken
    with caplog.at_level(logging.WARNING):
        assert not worth_it()
    assert why in caplog.text


def test_a_cpu_has_none(tiny21: ModelFiles) -> None:
    assert not float8_linear.available(CPU, torch.float32)
    transformer = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32, profile="Fast")
    _, conditions = random_inputs(clip=True)
    assert not transformer.choose(conditions).float8


def test_layers_are_torchs(tiny21: ModelFiles) -> None:
    """`fused` names eight of a block by place; none is forgotten in a layer of another kind."""
    transformer = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32)
    block = transformer._module.blocks[0]
    layers = [each for each in block.modules() if isinstance(each, nn.Linear)]
    once_a_video = {"k", "v", "k_img", "v_img"}
    crossed = [getattr(block.cross_attn, name) for name in once_a_video]
    assert set(layers) == {*fused._layers(block), *crossed}
