"""How strong an adapter is: by its tensors, else by its file's header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from adapters import random_factors, read, same, state
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from words import library_words

LAYERS = {
    "blocks.0.self_attn.q": (6, 4),
    "blocks.0.cross_attn.o": (6, 4),
    "blocks.0.ffn.0": (8, 4),
}
Q, OUT, FFN = LAYERS
DIFFUSERS, COMFYUI, KOHYA = "transformer.{theirs}", "diffusion_model.{}", "lora_unet_{word}"
KEY = "lora_adapter_metadata"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter.safetensors"


def config(model: str = "transformer", **fields: Any) -> dict[str, str]:
    """Fields of peft's LoraConfig as diffusers writes them."""
    given = {"r": 2, "lora_alpha": 2, **fields}
    return {f"{model}.{name}": value for name, value in given.items()}


def header(**fields: Any) -> dict[str, str]:
    return {KEY: json.dumps(config(**fields))}


@pytest.mark.parametrize("alpha", [torch.tensor(1.0), torch.tensor([1.0]), torch.tensor(1)])
def test_alpha_beside_the_factors_goes_first(path: Path, alpha: torch.Tensor) -> None:
    factors = random_factors(LAYERS)
    tensors = state(factors, COMFYUI) | {f"diffusion_model.{Q}.alpha": alpha}
    scales = {Q: 0.5, OUT: 4.0, FFN: 4.0}
    assert same(read(path, tensors, header(lora_alpha=8)), factors, scales)


@pytest.mark.parametrize("stem", [DIFFUSERS, COMFYUI, KOHYA, "{}", "base_model.model.{theirs}"])
def test_the_header_of_diffusers_counts_whatever_the_names(path: Path, stem: str) -> None:
    factors = random_factors(LAYERS)
    assert same(read(path, state(factors, stem), header(lora_alpha=8)), factors, 4.0)


def test_every_field_of_a_real_config_is_read(path: Path) -> None:
    made = LoraConfig(r=2, lora_alpha=3, target_modules=["to_q"]).to_dict()
    made["target_modules"] = list(made["target_modules"])
    text = json.dumps({f"transformer.{name}": value for name, value in made.items()}, default=str)
    factors = random_factors(LAYERS)
    assert same(read(path, state(factors, DIFFUSERS), {KEY: text}), factors, 1.5)


@pytest.mark.parametrize("fields", [{}, {"use_rslora": True}])
@pytest.mark.parametrize("stem", [DIFFUSERS, COMFYUI])
@pytest.mark.parametrize(
    "patterns",
    [
        {"ranks": {"ffn.net.0.proj": 4}, "alphas": {"attn1.to_q": 10, "ffn.net.0.proj": 12}},
        {"ranks": {"ffn.0": 4}, "alphas": {"self_attn.q": 10, "^blocks.0.ffn.0": 12}},
        {
            "ranks": {r"blocks\.\d+\.ffn\.net\.0\.proj": 4},
            "alphas": {r".*to_q": 10, r"net.*proj": 12},
        },
    ],
)
def test_ranks_and_alphas_that_differ_by_layer(
    path: Path, patterns: dict[str, dict[str, float]], stem: str, fields: dict[str, bool]
) -> None:
    factors = random_factors(LAYERS, {Q: 2, OUT: 2, FFN: 4})
    given = {"rank_pattern": patterns["ranks"], "alpha_pattern": patterns["alphas"], **fields}
    scales = {Q: 10 / 2, OUT: 6 / 2, FFN: 12 / 4}
    if fields:
        scales = {Q: 10 / 2**0.5, OUT: 6 / 2**0.5, FFN: 12 / 2}
    changes = read(path, state(factors, stem), header(lora_alpha=6, **given))
    assert same(changes, factors, scales)


def test_each_expert_has_its_own_section(path: Path) -> None:
    factors = random_factors(LAYERS)
    sections = config(lora_alpha=4) | config("transformer_2", lora_alpha=10)
    tensors = state(factors, "transformer_2.{theirs}")
    assert same(read(path, tensors, {KEY: json.dumps(sections)}), factors, 5.0)
    one = json.dumps(config("transformer_2", lora_alpha=10))
    assert same(read(path, tensors, {KEY: one}), factors, 5.0)
    other = config("text_encoder") | config("transformer")
    with pytest.raises(InputError, match=r"has no transformer_2\.r"):
        read(path, tensors, {KEY: json.dumps(other)})


def test_the_files_of_a_train_step_hold_factors_as_trained(path: Path) -> None:
    factors = random_factors(LAYERS)
    own = {"preset": "Wan2.1-I2V-Tiny", "rank": "2", "alpha": "6.0"}
    assert same(read(path, state(factors), own), factors, 3.0)
    assert same(read(path, state(factors), {**own, "alphaFolded": "true"}), factors)


def test_kohyas_header_counts_where_its_trainers_names_are(path: Path) -> None:
    """musubi-tuner's convert_lora.py folds alpha / rank into the factors that it writes under
    other names, and copies the header."""
    factors = random_factors(LAYERS)
    told = {"ss_network_module": "networks.lora_wan", "ss_network_dim": "2"}
    told["ss_network_alpha"] = "1.0"
    assert same(read(path, state(factors, KOHYA), told), factors, 0.5)
    assert same(read(path, state(factors, KOHYA), told | {"ss_network_dim": "2.0"}), factors, 0.5)
    assert same(read(path, state(factors, COMFYUI), told), factors)
    assert same(read(path, state(factors, "{}"), told), factors)
    alphas = {f"lora_unet_{layer.replace('.', '_')}.alpha": torch.tensor(4.0) for layer in LAYERS}
    told["ss_network_alpha"] = "Dynamic"
    assert same(read(path, state(factors, KOHYA) | alphas, told), factors, 2.0)


def test_files_that_say_nothing_are_as_strong_as_they_are(path: Path) -> None:
    factors = random_factors(LAYERS, {Q: 2, OUT: 3, FFN: 4})
    for stem in (DIFFUSERS, COMFYUI, KOHYA, "base_model.model.{}"):
        assert same(read(path, state(factors, stem), {"format": "pt"}), factors)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({KEY: "not json"}, 'lora_adapter_metadata in its header is no JSON object: "not json"'),
        ({KEY: "[1]"}, "is no JSON object"),
        ({KEY: "[" * 100_000}, "is no JSON object"),
        ({KEY: "{}"}, "has no transformer.r"),
        (
            {KEY: '{"transformer.lora_alpha": 16}'},
            "r must be a whole number from 1, not null",
        ),
        (header(r="2"), 'has no rank: r must be a whole number from 1, not "2"'),
        (header(r=True), "r must be a whole number from 1, not true"),
        (header(r=0), "r must be a whole number from 1, not 0"),
        (header(lora_alpha=None), "has no alpha: lora_alpha must be a number, not null"),
        (header(lora_alpha=float("nan")), "has no alpha: lora_alpha must be a number, not NaN"),
        (
            header(rank_pattern=[2]),
            "by layer: rank_pattern must be an object of them, not [2]",
        ),
        (
            header(alpha_pattern={"to_q": "8"}),
            'must be an object of them, not {"to_q": "8"}',
        ),
        (header(alpha_pattern={"to_q(": 8}), 'names no layers: alpha_pattern has "to_q("'),
        (header(r=8), "has rank 2 at blocks.0.cross_attn.o, and lora_adapter_metadata in its"),
        (header(use_dora=True), "is an adapter of the kind DoRA by its header"),
        (header(peft_type="LOHA"), 'is an adapter of the kind "LOHA" by its header'),
        (header(peft_type=["x" * 999]), 'is an adapter of the kind ["xxx'),
        (header(r="9" * 9999), "must be a whole number from 1, not"),
        (header(rank_pattern={"y" * 999: None}), "rank_pattern must be an object of them"),
        ({KEY: "z" * 9999}, "is no JSON object"),
        ({"preset": "x", "rank": "2" * 9999, "alpha": "2"}, 'has alpha "2" and rank "222'),
        (
            {"preset": "x", "rank": "two", "alpha": "2"},
            'has alpha "2" and rank "two" in its header',
        ),
        ({"preset": "x", "rank": "2", "alpha": "inf"}, 'has alpha "inf" and rank "2"'),
        (
            {"preset": "x", "expert": "Loud"},
            'has expert "Loud" in its header, none of Only, High',
        ),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(
    path: Path, told: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(path, state(random_factors(LAYERS), DIFFUSERS), told)
    assert caught.value.reason is Reason.MODEL_INVALID
    assert caught.value.message.startswith(str(path))
    assert said in caught.value.message
    assert not library_words(caught.value.message)
    assert len(caught.value.message) < len(str(path)) + 300


@pytest.mark.parametrize("alpha", ["Dynamic", "None", "nan"])
def test_kohyas_header_without_a_number_is_refused(path: Path, alpha: str) -> None:
    told = {"ss_network_dim": "2", "ss_network_alpha": alpha}
    with pytest.raises(InputError, match=f'has ss_network_alpha "{alpha}" and ss_network_dim "2"'):
        read(path, state(random_factors(LAYERS), KOHYA), told)
