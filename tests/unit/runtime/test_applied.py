"""Adapters at work on a transformer: what they add, and what is left when they are gone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from adapters import random_factors, shapes_of, state
from diffusers_peer import SIGMA, random_inputs
from renders import adapter
from wan_runtime.contract.service import Profile
from wan_runtime.contract.steps import Expert
from wan_runtime.models import load
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.rendering.adapters import applied

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
PROFILES = get_args(Profile)
ENDS = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}


def loaded(files: ModelFiles, dtype: torch.dtype = torch.float32) -> nn.Module:
    return Transformer(load.load_dit(files, Expert.ONLY, dtype, CPU), CPU, dtype)._module


@pytest.fixture(scope="module")
def dit(tiny21: ModelFiles) -> nn.Module:
    return loaded(tiny21)


def differences(dit: nn.Module, seed: int = 0, scale: float = 0.2) -> dict[str, Tensor]:
    """A difference of every parameter: weights, norms, the convolution, biases, modulations."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(parameter.shape, generator=generator) * parameter.std() * scale
        if parameter.numel() > 1 and float(parameter.std())
        else torch.randn(parameter.shape, generator=generator) * scale
        for name, parameter in dit.float().named_parameters()
    }


def written(path: Path, grown: Mapping[str, Tensor], more: Mapping[str, Tensor] = {}) -> Path:
    """A file as LightX2V's extractor writes it."""
    tensors = dict(more)
    for name, each in grown.items():
        layer, _, parameter = name.rpartition(".")
        tensors[f"diffusion_model.{layer}.{ENDS[parameter]}"] = each
    save_file(tensors, path)
    return path


def use(path: Path, strength: float = 1.0) -> AppliedAdapter:
    return adapter(path.name, {Expert.ONLY: path}, strength)


@torch.no_grad()
def predicted(
    dit: nn.Module,
    *uses: AppliedAdapter,
    dtype: torch.dtype = torch.float32,
    profile: Profile = "Exact",
) -> Tensor:
    noisy, conditions = random_inputs(clip=True)
    transformer = Transformer(dit, CPU, dtype, profile=profile)
    with applied({Expert.ONLY: transformer}, uses, AdapterCache(2**30, torch.float32)):
        return transformer.begin(conditions.to(CPU, dtype)).velocity(noisy, SIGMA)


def merged(dit: nn.Module, *grown: tuple[float, Mapping[str, Tensor]]) -> nn.Module:
    """A copy with the differences in its weights."""
    other = copy.deepcopy(dit)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            whole = parameter.float() + sum(factor * each[name] for factor, each in grown)
            parameter.copy_(whole)
    return other


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("strength", [1.0, 0.5, -0.25])
def test_differences_are_as_if_they_were_in_the_weights(
    dit: nn.Module, tmp_path: Path, strength: float, profile: Profile
) -> None:
    predict = partial(predicted, profile=profile)
    grown = differences(copy.deepcopy(dit))
    base = predict(dit)
    ours = predict(dit, use(written(tmp_path / "a", grown), strength))
    assert torch.equal(ours, predict(merged(dit, (strength, grown))))
    assert float((ours - base).norm() / base.norm()) > 0.05
    assert torch.equal(predict(dit), base), "the base is what it was, to the bit"
    assert not any("forward" in vars(module) for module in dit.modules())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("part", ["modulation", "bias", "norm3.weight", "patch_embedding.weight"])
def test_every_kind_of_difference_counts(
    dit: nn.Module, tmp_path: Path, part: str, profile: Profile
) -> None:
    predict = partial(predicted, profile=profile)
    grown = differences(copy.deepcopy(dit))
    only = {name: each for name, each in grown.items() if name.endswith(part)}
    none = {name: torch.zeros_like(each) for name, each in grown.items()}
    ours = predict(dit, use(written(tmp_path / "a", only)))
    assert torch.equal(ours, predict(merged(dit, (1.0, {**none, **only}))))
    assert not torch.allclose(ours, predict(dit), atol=1e-3)


@pytest.mark.parametrize("profile", PROFILES)
def test_factors_and_differences_of_several_adapters_add_up(
    dit: nn.Module, tmp_path: Path, profile: Profile
) -> None:
    one, two = differences(copy.deepcopy(dit), 1), differences(copy.deepcopy(dit), 2)
    layers = [name for name in shapes_of_linear(dit) if name.endswith((".q", "ffn.0"))]
    factors = random_factors(shapes_of(dit, layers))
    a = written(tmp_path / "a", one, state(factors, "diffusion_model.{}"))
    b = written(tmp_path / "b", two)
    whole = merged(dit, (0.5, one), (2.0, two))
    with torch.no_grad():
        for layer, (up, down) in factors.items():
            dict(whole.named_parameters())[f"{layer}.weight"].add_(0.5 * up @ down)
    ours = predicted(dit, use(a, 0.5), use(b, 2.0), profile=profile)
    theirs = predicted(whole, profile=profile)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def shapes_of_linear(dit: nn.Module) -> list[str]:
    return [name for name, layer in dit.named_modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_distilled_model_comes_back_in_bfloat16(
    tiny21: ModelFiles, tmp_path: Path, profile: Profile
) -> None:
    """Taken apart into differences, it is the same model again at strength 1, rounded once."""
    base = loaded(tiny21, torch.bfloat16)
    distilled = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in distilled.parameters():
            parameter.mul_(1 + torch.randn(parameter.shape, generator=generator) / 64)
    before, after = dict(base.named_parameters()), dict(distilled.named_parameters())
    grown = {name: after[name].float() - each.float() for name, each in before.items()}
    predict = partial(predicted, dtype=torch.bfloat16, profile=profile)
    ours = predict(base, use(written(tmp_path / "a", grown)))
    assert torch.equal(ours, predict(distilled))
    assert not torch.equal(ours, predict(base))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_transformer_that_takes_turns_is_changed_where_it_is(
    tiny21: ModelFiles, tmp_path: Path, profile: Profile
) -> None:
    dit = loaded(tiny21)
    predict = partial(predicted, profile=profile)
    grown = differences(copy.deepcopy(dit))
    path, base, wanted = tmp_path / "a", predict(dit), predict(merged(dit, (1.0, grown)))
    written(path, grown)
    transformer = Transformer(dit, CPU, torch.float32, profile=profile, offloaded=True)
    noisy, conditions = random_inputs(clip=True)
    with (
        torch.no_grad(),
        applied({Expert.ONLY: transformer}, [use(path)], AdapterCache(2**30, torch.float32)),
    ):
        for _ in range(2):
            transformer.bring()
            ours = transformer.begin(conditions).velocity(noisy, SIGMA)
            assert torch.equal(ours, wanted)
            transformer.leave()
    assert torch.equal(predict(dit), base)


def test_a_failing_pass_leaves_the_base_alone(dit: nn.Module, tmp_path: Path) -> None:
    grown = differences(copy.deepcopy(dit))
    base = predicted(dit)
    noisy, conditions = random_inputs(clip=True)
    whole = use(written(tmp_path / "a", grown))
    transformer = Transformer(dit, CPU, torch.float32)
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError),
        applied({Expert.ONLY: transformer}, [whole], AdapterCache(2**30, torch.float32)),
    ):
        transformer.begin(conditions).velocity(noisy[:, :3], SIGMA)
    assert torch.equal(predicted(dit), base)
