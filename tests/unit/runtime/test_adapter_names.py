"""Adapters as other tools name their layers and tensors: one set of factors, read from all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from adapters import random_factors, read, same, state
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.adapters.dialects import read_adapter

LAYERS = {
    "blocks.0.self_attn.q": (6, 4),
    "blocks.3.self_attn.o": (6, 4),
    "blocks.12.cross_attn.k": (6, 4),
    "blocks.39.cross_attn.v": (6, 4),
    "blocks.3.ffn.0": (8, 4),
    "blocks.3.ffn.2": (4, 8),
}
DOWN, UP = "lora_down.weight", "lora_up.weight"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter.safetensors"


@pytest.mark.parametrize(
    ("dialect", "stem", "a", "b"),
    [
        # DiffSynth's trainer, with and without --remove_prefix_in_ckpt.
        ("DiffSynth", "{}", "lora_A.default.weight", "lora_B.default.weight"),
        ("DiffSynth", "pipe.dit.{}", "lora_A.default.weight", "lora_B.default.weight"),
        ("DiffSynth", "{}", "lora_A.weight", "lora_B.weight"),
        ("DiffSynth", "{}", DOWN, UP),
        # ComfyUI, diffusion-pipe, ai-toolkit; the names of a checkpoint with its wrapper.
        ("ComfyUI", "diffusion_model.{}", "lora_A.weight", "lora_B.weight"),
        ("ComfyUI", "diffusion_model.{}", DOWN, UP),
        ("ComfyUI", "model.diffusion_model.{}", "lora_A.weight", "lora_B.weight"),
        ("ComfyUI", "diffusion_model.{theirs}", "lora_A.weight", "lora_B.weight"),
        # kohya and musubi-tuner; VideoX-Fun has an underscore more, others leave dots in.
        ("ComfyUI", "lora_unet_{word}", DOWN, UP),
        ("ComfyUI", "lora_unet__{word}", DOWN, UP),
        ("ComfyUI", "lora_unet_{}", DOWN, UP),
        ("ComfyUI", "lora_transformer_{word}", DOWN, UP),
        # diffusers, peft, and one in the other.
        ("Diffusers", "transformer.{theirs}", "lora_A.weight", "lora_B.weight"),
        ("Diffusers", "transformer.{theirs}", "lora.down.weight", "lora.up.weight"),
        ("Diffusers", "transformer.{theirs}", "lora_A.my-style.weight", "lora_B.my-style.weight"),
        ("Diffusers", "transformer.base_model.model.{theirs}", "lora_A.weight", "lora_B.weight"),
        (
            "Diffusers",
            "base_model.model.{theirs}",
            "lora_A.default.weight",
            "lora_B.default.weight",
        ),
        ("Diffusers", "{theirs}", "lora_A.weight", "lora_B.weight"),
        ("DiffSynth", "base_model.model.{}", "lora_A.weight", "lora_B.weight"),
        ("DiffSynth", "module._orig_mod.{}", "lora_A.weight", "lora_B.weight"),
    ],
)
def test_every_spelling_is_read(path: Path, dialect: str, stem: str, a: str, b: str) -> None:
    factors = random_factors(LAYERS)
    changes = read(path, state(factors, stem, a, b))
    assert same(changes, factors)
    assert read_adapter(path).dialect == dialect


def test_a_word_with_some_dots_left_in_is_read(path: Path) -> None:
    factors = random_factors(LAYERS)
    words = state(factors, "lora_unet_{word}", DOWN, UP)
    # As ComfyUI-WanVideoWrapper's users report them: `lora_unet_blocks_22.self_attn.k`.
    tensors = {name.replace("_self_attn_", ".self_attn."): each for name, each in words.items()}
    assert tensors.keys() != words.keys()
    assert same(read(path, tensors), factors)


def test_what_distilled_adapters_hold_beside_factors(path: Path) -> None:
    factors = random_factors(LAYERS)
    others = {
        "blocks.0.self_attn.q.diff_b": ("blocks.0.self_attn.q.bias", (6,)),
        "blocks.0.cross_attn.norm_k_img.diff": ("blocks.0.cross_attn.norm_k_img.weight", (4,)),
        "blocks.0.norm3.diff": ("blocks.0.norm3.weight", (4,)),
        "blocks.0.norm3.diff_b": ("blocks.0.norm3.bias", (4,)),
        "blocks.11.diff_m": ("blocks.11.modulation", (1, 6, 4)),
        "head.diff_m": ("head.modulation", (1, 2, 4)),
        "head.head.diff": ("head.head.weight", (8, 4)),
        "patch_embedding.diff": ("patch_embedding.weight", (4, 2, 1, 2, 2)),
        "img_emb.proj.0.diff_b": ("img_emb.proj.0.bias", (4,)),
        "blocks.1.norm3.w_norm": ("blocks.1.norm3.weight", (4,)),
        "blocks.1.norm3.b_norm": ("blocks.1.norm3.bias", (4,)),
    }
    tensors = state(factors, "diffusion_model.{}", DOWN, UP)
    given = {name: torch.randn(shape) for name, (_, shape) in others.items()}
    changes = read(
        path, tensors | {f"diffusion_model.{name}": each for name, each in given.items()}
    )
    assert same(changes, factors)
    assert changes.differences.keys() == {parameter for parameter, _ in others.values()}
    for name, (parameter, _) in others.items():
        assert torch.equal(changes.differences[parameter], given[name])


def test_a_bias_beside_b_is_scaled_as_b(path: Path) -> None:
    factors = random_factors(LAYERS)
    bias = torch.randn(6)
    tensors = state(factors, "transformer.{theirs}")
    tensors["transformer.blocks.0.attn1.to_q.lora_B.bias"] = bias
    header = {"lora_adapter_metadata": '{"transformer.r": 2, "transformer.lora_alpha": 6}'}
    changes = read(path, tensors, header)
    assert same(changes, factors, 3.0)
    assert torch.allclose(changes.differences["blocks.0.self_attn.q.bias"], bias * 3)


def test_factors_of_a_convolution_are_a_difference(path: Path) -> None:
    down, up = torch.randn(2, 3, 1, 2, 2), torch.randn(5, 2, 1, 1, 1)
    stem = "diffusion_model.patch_embedding"
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
    changes = read(path, {**tensors, f"{stem}.alpha": torch.tensor(1.0)})
    # What peft's layer computes: one convolution after the other, on a patch alone.
    patch = torch.randn(1, 3, 1, 2, 2)
    wanted = torch.conv3d(torch.conv3d(patch, down), up) / 2
    grown = torch.conv3d(patch, changes.differences["patch_embedding.weight"])
    assert torch.allclose(grown, wanted, atol=1e-5)
    assert not changes.factors


@pytest.mark.parametrize(
    ("first", "second"),
    [("transformer.{theirs}", "transformer_2.{theirs}"), ("pipe.dit.{}", "pipe.dit2.{}")],
)
def test_a_file_of_both_experts_has_a_part_for_each(path: Path, first: str, second: str) -> None:
    high, low = random_factors(LAYERS), random_factors(LAYERS, seed=1)
    with pytest.raises(InputError, match="is of the high-noise and low-noise experts of Wan2"):
        read(path, state(high, first) | state(low, second))
    adapter = read_adapter(path)
    assert same(adapter.of(Expert.HIGH_NOISE), high)
    assert same(adapter.of(Expert.LOW_NOISE), low)


def test_a_file_of_the_second_transformer_is_of_the_low_noise_expert(path: Path) -> None:
    factors = random_factors(LAYERS)
    alone = read(path, state(factors, "transformer_2.{theirs}"))
    assert same(alone, factors), "a model of one transformer has no other to mistake it for"
    adapter = read_adapter(path)
    assert same(adapter.of(Expert.LOW_NOISE), factors)
    assert adapter.part(Expert.HIGH_NOISE) is None
    with pytest.raises(InputError, match="is of the low-noise expert, not of the high-noise one"):
        adapter.of(Expert.HIGH_NOISE)


def test_the_first_transformer_alone_may_be_either(path: Path) -> None:
    """diffusers has no other name: `load_into_transformer_2` reads `transformer.`"""
    factors = random_factors(LAYERS)
    read(path, state(factors, "transformer.{theirs}"))
    adapter = read_adapter(path)
    assert all(same(adapter.of(expert), factors) for expert in Expert)


def test_our_own_files_say_whose_they_are(path: Path) -> None:
    factors = random_factors(LAYERS)
    header = {"preset": "Wan2.2-I2V-A14B", "rank": "2", "alpha": "2.0", "alphaFolded": "true"}
    read(path, state(factors), {**header, "expert": "HighNoise"})
    adapter = read_adapter(path)
    assert same(adapter.of(Expert.HIGH_NOISE), factors)
    with pytest.raises(InputError, match="is of the high-noise expert, not of the low-noise one"):
        adapter.of(Expert.LOW_NOISE)
    read(path, state(factors), {**header, "expert": "Only"})
    assert all(same(read_adapter(path).of(expert), factors) for expert in Expert)


SHAPES = {
    "blocks.0.self_attn.q.weight": torch.Size((6, 4)),
    "blocks.0.self_attn.q.bias": torch.Size((6,)),
}
IMAGE = {"blocks.0.cross_attn.k_img": (6, 4), "blocks.0.cross_attn.v_img": (6, 4)}


def parts(path: Path, layers: dict[str, tuple[int, int]], **others: Tensor) -> Changes:
    tensors = state(random_factors(layers), "diffusion_model.{}") | others
    read(path, tensors)
    return read_adapter(path, "s3://bucket/style.safetensors").fitted(Expert.ONLY, SHAPES)[0]


def test_image_branches_that_the_model_lacks_are_left_out(path: Path) -> None:
    layers = {"blocks.0.self_attn.q": (6, 4), **IMAGE, "img_emb.proj.1": (4, 4)}
    norm = {"diffusion_model.blocks.0.cross_attn.norm_k_img.diff": torch.ones(4)}
    changes = parts(
        path, layers, **norm, **{"diffusion_model.img_emb.proj.0.diff_b": torch.ones(4)}
    )
    assert list(changes.factors) == ["blocks.0.self_attn.q"]
    assert not changes.differences
    _, left_out = read_adapter(path).fitted(Expert.ONLY, SHAPES)
    assert left_out == (
        "blocks.0.cross_attn.k_img.weight",
        "blocks.0.cross_attn.norm_k_img.weight",
        "blocks.0.cross_attn.v_img.weight",
        "img_emb.proj.0.bias",
        "img_emb.proj.1.weight",
    )


@pytest.mark.parametrize(
    ("layers", "others", "said"),
    [
        (
            {"blocks.0.self_attn.q": (6, 4), "blocks.40.ffn.0": (8, 4), **IMAGE},
            {},
            "1 of its 4 layers fit this model: blocks.40.ffn.0.weight is 8x4 there and none here",
        ),
        (
            {"blocks.0.self_attn.q": (12, 4)},
            {},
            "0 of its 1 layers fit this model: blocks.0.self_attn.q.weight is 12x4 there and 6x4",
        ),
        (
            {"blocks.0.self_attn.q": (6, 4)},
            {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(7)},
            "1 of its 2 layers fit this model: blocks.0.self_attn.q.bias is 7 there and 6 here",
        ),
        (IMAGE, {}, "0 of its 2 layers fit this model: blocks.0.cross_attn.k_img.weight is 6x4"),
    ],
)
def test_what_else_does_not_fit_is_refused_with_counts(
    path: Path, layers: dict[str, tuple[int, int]], others: dict[str, Tensor], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        parts(path, layers, **others)
    assert caught.value.message.startswith("s3://bucket/style.safetensors has the keys of ComfyUI")
    assert said in caught.value.message
