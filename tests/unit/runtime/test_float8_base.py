"""Base weights in 8 bits under an adapter that is trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffusers_peer import random_inputs
from wan_runtime.contract.training import KEEPING, Keeping, LoraSpec
from wan_runtime.errors import InputError
from wan_runtime.models.dit import float8_base
from wan_runtime.models.dit.float8_base import KEPT, Float8Linear, dense, rounded
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
POLICIES: tuple[Keeping | None, ...] = (None, *KEEPING)


def loaded(files: ModelFiles, keeping: Keeping | None, *, float8: bool) -> Transformer:
    """Wan2.1's, with the rounded weights in 8 bits, or the same numbers in float32."""
    made = Transformer.load(
        files, files.preset.experts[-1], CPU, torch.float32, keeping=keeping, float8=float8
    )
    if not float8:
        for _, _, layer in float8_base._inner_layers(made._module):
            layer.weight.data = dense(*rounded(layer.weight.data), torch.float32)
    return made


def gradients(made: Transformer, *, recompute: bool) -> dict[str, Tensor]:
    """Of the adapter's parameters, and `noisy`, that of what entered the transformer."""
    parameters = made.add_lora(LoraSpec(rank=4, alpha=2.0), seed=1)
    draw = torch.Generator().manual_seed(2)
    for each in parameters.values():  # B is zero at first, and A then has no gradient
        each.data = torch.randn(each.shape, generator=draw) * 0.05
    noisy, conditions = random_inputs(clip=True)
    noisy = noisy.requires_grad_()
    through = made.begin(conditions, recompute=recompute)
    through.velocity(noisy, torch.tensor([0.6])).pow(2).mean().backward()
    found = {name: each.grad for name, each in parameters.items()} | {"noisy": noisy.grad}
    return {name: each for name, each in found.items() if each is not None}


@pytest.mark.parametrize("keeping", POLICIES)
def test_gradients_are_those_of_the_numbers_that_are_kept(
    tiny21: ModelFiles, keeping: Keeping | None
) -> None:
    recompute = keeping is None  # as gradientCheckpointing: Full does
    wanted = gradients(loaded(tiny21, keeping, float8=False), recompute=recompute)
    found = gradients(loaded(tiny21, keeping, float8=True), recompute=recompute)
    assert found.keys() == wanted.keys()
    assert len(found) > 40
    for name, each in wanted.items():
        assert float(each.norm()) > 0, name
        assert float((found[name] - each).norm() / each.norm()) < 1e-4, name


def test_inner_linear_layers_alone_are_rounded(tiny21: ModelFiles) -> None:
    module = loaded(tiny21, None, float8=True)._module
    found = {name for name, each in module.named_modules() if isinstance(each, Float8Linear)}
    inner = [str(number) for number in range(KEPT, len(module.blocks) - KEPT)]
    assert {name.split(".")[1] for name in found} == set(inner)
    assert len(found) == len(inner) * 12, "q, k, v, o twice, keys and values of the photo, two more"
    for name in found:
        layer = module.get_submodule(name)
        assert layer.weight.dtype is torch.float8_e4m3fn
        assert layer.weight.nbytes == layer.in_features * layer.out_features


def test_what_backward_needs_is_kept_in_8_bits() -> None:
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(64, 32, generator=draw)
    layer = Float8Linear(*rounded(weight), None)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(torch.randn(2, 32, generator=draw, requires_grad=True))
    assert sorted(each.nbytes for each in kept) == [64 * 4, 64 * 32]


def test_rounded_numbers_have_one_error() -> None:
    weight = torch.randn(256, 512, generator=torch.Generator().manual_seed(4))
    weight = weight * torch.logspace(-6, 2, 256)[:, None]
    weight[7] = 0
    made, scale = rounded(weight)
    exact = dense(made, scale, torch.float32)
    assert torch.equal(dense(made, scale, torch.bfloat16).float(), exact)
    each = ((exact - weight).norm(dim=1) / weight.norm(dim=1))[weight.any(dim=1)]
    assert 0.02 < float(each.min()) <= float(each.max()) < 0.035
    assert not exact[7].any()
    assert torch.equal(dense(*rounded(exact), torch.float32), exact), "as a file may hold them"


def test_weights_that_8_bits_cannot_hold_are_refused() -> None:
    blocks = (torch.nn.Sequential(torch.nn.Linear(64, 8)) for _ in range(3))
    module = torch.nn.Module()
    module.blocks = torch.nn.ModuleList(blocks)
    module.requires_grad_(False)
    layer = module.blocks[1][0]
    layer.weight[3, 5] = torch.inf
    with pytest.raises(InputError, match=r"training.basePrecision: .* use BF16"):
        float8_base.store(module, CPU)
