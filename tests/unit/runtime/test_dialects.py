"""Adapters under the names of other tools, written as those tools read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.wan_video_dit import WanModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file
from torch import nn

from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters import dialects
from wan_runtime.models.adapters.changes import Factors
from wan_runtime.models.adapters.dialects import read_adapter, write_adapter
from wan_runtime.models.adapters.layer_names import DIFFUSERS, MODULATED, OTHERS
from wan_runtime.models.tiny import DIT21, DIT22

# Written by hand from what the tools publish, not from the code under test.
# ComfyUI: its own messages, github.com/Comfy-Org/ComfyUI/issues/10222 ("diffusion_model.blocks.25.
# cross_attn.v_img.lora_down.weight").
# Diffusers: the parameters of WanTransformer3DModel, huggingface.co/Wan-AI/
# Wan2.1-I2V-14B-720P-Diffusers, transformer/diffusion_pytorch_model.safetensors.index.json.
KEYS = {
    "blocks.3.self_attn.q": (
        "diffusion_model.blocks.3.self_attn.q.lora_A.weight",
        "transformer.blocks.3.attn1.to_q.lora_A.weight",
    ),
    "blocks.11.self_attn.o": (
        "diffusion_model.blocks.11.self_attn.o.lora_A.weight",
        "transformer.blocks.11.attn1.to_out.0.lora_A.weight",
    ),
    "blocks.39.cross_attn.k": (
        "diffusion_model.blocks.39.cross_attn.k.lora_A.weight",
        "transformer.blocks.39.attn2.to_k.lora_A.weight",
    ),
    "blocks.0.cross_attn.v_img": (
        "diffusion_model.blocks.0.cross_attn.v_img.lora_A.weight",
        "transformer.blocks.0.attn2.add_v_proj.lora_A.weight",
    ),
    "blocks.0.ffn.0": (
        "diffusion_model.blocks.0.ffn.0.lora_A.weight",
        "transformer.blocks.0.ffn.net.0.proj.lora_A.weight",
    ),
    "blocks.0.ffn.2": (
        "diffusion_model.blocks.0.ffn.2.lora_A.weight",
        "transformer.blocks.0.ffn.net.2.lora_A.weight",
    ),
    "time_embedding.0": (
        "diffusion_model.time_embedding.0.lora_A.weight",
        "transformer.condition_embedder.time_embedder.linear_1.lora_A.weight",
    ),
    "img_emb.proj.3": (
        "diffusion_model.img_emb.proj.3.lora_A.weight",
        "transformer.condition_embedder.image_embedder.ff.net.2.lora_A.weight",
    ),
    "head.head": (
        "diffusion_model.head.head.lora_A.weight",
        "transformer.proj_out.lora_A.weight",
    ),
}
RANK = 2


def random_factors(layers: list[str]) -> Factors:
    generator = torch.Generator().manual_seed(0)
    return {
        layer: (
            torch.randn(6, RANK, generator=generator),
            torch.randn(RANK, 4, generator=generator),
        )
        for layer in layers
    }


def test_each_tool_finds_its_own_names(tmp_path: Path) -> None:
    factors, path = random_factors(list(KEYS)), tmp_path / "adapter.safetensors"
    for dialect, number in ((Dialect.COMFYUI, 0), (Dialect.DIFFUSERS, 1)):
        write_adapter(dialect, path, factors, {})
        state = load_file(path)
        assert len(state) == 2 * len(KEYS)
        for layer, names in KEYS.items():
            b, a = factors[layer]
            assert torch.equal(state[names[number]], a)
            assert torch.equal(state[names[number].replace("lora_A", "lora_B")], b)


@pytest.mark.parametrize("dialect", Dialect)
def test_what_is_written_is_read(dialect: Dialect, tmp_path: Path) -> None:
    factors, path = random_factors(list(KEYS)), tmp_path / "adapter.safetensors"
    write_adapter(dialect, path, factors, {"rank": "2"})
    adapter = read_adapter(path)
    assert adapter.dialect is dialect
    read = adapter.of(Expert.ONLY).factors
    assert read.keys() == factors.keys()
    for layer, (b, a) in factors.items():
        assert torch.equal(read[layer][0], b)
        assert torch.equal(read[layer][1], a)


def test_a_file_is_read_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small operations by several threads take minutes on busy processors."""
    path, held = tmp_path / "adapter.safetensors", list[int]()
    write_adapter(
        Dialect.DIFFSYNTH, path, {"blocks.0.ffn.0": (torch.ones(8, 2), torch.ones(2, 4))}, {}
    )
    number = dialects._number

    def noting(*given: Any) -> torch.Tensor:
        held.append(torch.get_num_threads())
        return number(*given)

    monkeypatch.setattr(dialects, "_number", noting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        read_adapter(path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert held == [1, 1]


def test_every_parameter_has_a_name() -> None:
    linear, others, modulated = set[str](), set[str](), set[str]()
    for shape in (DIT21, DIT22):
        with skip_model_initialization():
            model = WanModel(**shape)
        for name, module in model.named_modules():
            own = {each for each, _ in module.named_parameters(recurse=False)}
            if own == {"modulation"}:
                modulated.add(name)
            elif own:
                (linear if isinstance(module, nn.Linear) else others).add(name)
    for found, names in ((linear, DIFFUSERS), (others, OTHERS), (modulated, MODULATED)):
        assert found == {name.replace("*", block) for name in names for block in "0123"}


def test_the_names_are_those_of_diffusers_own_conversion() -> None:
    names = {**DIFFUSERS, **OTHERS}
    official = [f"{name.replace('*', '7')}.weight" for name in names]
    converted = convert_wan_transformer_to_diffusers(dict.fromkeys(official))
    assert list(converted) == [f"{name.replace('*', '7')}.weight" for name in names.values()]
