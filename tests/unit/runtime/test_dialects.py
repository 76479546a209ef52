"""Adapters under the names of other tools: written as those tools read them, read as they write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.wan_video_dit import WanModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wan_runtime.errors import InputError
from wan_runtime.job import Dialect, Reason
from wan_runtime.models.tiny import DIT21, DIT22
from wan_runtime.training.dialects import DIFFUSERS, Factors, read_adapter, write_adapter

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
    read_dialect, read = read_adapter(path)
    assert read_dialect is dialect
    assert read.keys() == factors.keys()
    for layer, (b, a) in factors.items():
        assert torch.equal(read[layer][0], b)
        assert torch.equal(read[layer][1], a)


def test_every_linear_layer_has_a_name() -> None:
    linear = set[str]()
    for shape in (DIT21, DIT22):
        with skip_model_initialization():
            model = WanModel(**shape)
        linear |= {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    named = {name.replace("*", block) for name in DIFFUSERS for block in "0123"}
    assert linear == named


def test_the_names_are_those_of_diffusers_own_conversion() -> None:
    official = [f"{name.replace('*', '7')}.weight" for name in DIFFUSERS]
    converted = convert_wan_transformer_to_diffusers(dict.fromkeys(official))
    assert list(converted) == [f"{name.replace('*', '7')}.weight" for name in DIFFUSERS.values()]


def kohya(alpha: float | None, stem: str) -> dict[str, Tensor]:
    state = {
        f"{stem}.lora_down.weight": torch.ones(RANK, 4),
        f"{stem}.lora_up.weight": torch.ones(6, RANK),
    }
    return state if alpha is None else {**state, f"{stem}.alpha": torch.tensor(alpha)}


@pytest.mark.parametrize(
    ("state", "dialect", "layer", "delta"),
    [
        (kohya(1.0, "lora_unet_blocks_3_self_attn_q"), "ComfyUI", "blocks.3.self_attn.q", 1),
        (kohya(4.0, "lora_unet_blocks_12_ffn_0"), "ComfyUI", "blocks.12.ffn.0", 4),
        (
            kohya(1.0, "lora_unet_blocks_3_cross_attn_k_img"),
            "ComfyUI",
            "blocks.3.cross_attn.k_img",
            1,
        ),
        (kohya(None, "diffusion_model.blocks.3.ffn.2"), "ComfyUI", "blocks.3.ffn.2", 2),
        (
            kohya(None, "transformer_2.blocks.3.attn1.to_out.0"),
            "Diffusers",
            "blocks.3.self_attn.o",
            2,
        ),
        (kohya(None, "blocks.3.self_attn.v"), "DiffSynth", "blocks.3.self_attn.v", 2),
    ],
)
def test_other_spellings_are_read(
    state: dict[str, Tensor], dialect: str, layer: str, delta: float, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.safetensors"
    save_file(state, path)
    found, factors = read_adapter(path)
    assert (found, list(factors)) == (dialect, [layer])
    b, a = factors[layer]
    assert torch.equal(b @ a, torch.full((6, 4), float(delta)))


def test_scale_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    config = {"transformer.r": 2, "transformer.lora_alpha": 8, "transformer.rank_pattern": {}}
    header = {"lora_adapter_metadata": json.dumps(config)}
    save_file(kohya(None, "transformer.blocks.0.attn1.to_q"), path, header)
    b, a = read_adapter(path)[1]["blocks.0.self_attn.q"]
    assert torch.equal(b @ a, torch.full((6, 4), 8.0))
    # The files of a train step hold the factors as trained, those of an export the delta.
    own = {"preset": "Wan2.1-I2V-Tiny", "rank": "2", "alpha": "6.0"}
    for header, delta in ((own, 6.0), ({**own, "alphaFolded": "true"}, 2.0)):
        save_file(kohya(None, "blocks.0.self_attn.q"), path, header)
        b, a = read_adapter(path)[1]["blocks.0.self_attn.q"]
        assert torch.equal(b @ a, torch.full((6, 4), delta))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"unet.down.0.lora_A.weight": torch.ones(2, 4)}, "unet.down.0.lora_A.weight"),
        ({"blocks.0.self_attn.q.weight": torch.ones(2, 4)}, "blocks.0.self_attn.q.weight"),
        (
            {
                **kohya(None, "diffusion_model.blocks.0.self_attn.q"),
                "diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(6),
            },
            r"1 of 3 keys are not understood, such as \S+diff_b",
        ),
        ({}, "0 of 0 keys"),
        (
            {
                **kohya(None, "diffusion_model.blocks.0.self_attn.q"),
                **kohya(None, "transformer.blocks.1.attn1.to_q"),
            },
            "mixes the keys of ComfyUI and Diffusers",
        ),
        (
            {
                **kohya(None, "transformer.blocks.0.attn1.to_q"),
                **kohya(None, "transformer_2.blocks.0.attn1.to_q"),
            },
            "one file for each expert",
        ),
        ({"blocks.0.ffn.0.lora_A.default.weight": torch.ones(2, 4)}, "lacks A or B of blocks.0"),
        (
            {
                "blocks.0.ffn.0.lora_A.default.weight": torch.ones(2, 4),
                "blocks.0.ffn.0.lora_B.default.weight": torch.ones(6, 3),
            },
            r"B \[6, 3\] and A \[2, 4\] of blocks.0.ffn.0 do not fit",
        ),
    ],
)
def test_what_is_no_adapter_is_refused(
    state: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.safetensors"
    save_file(state, path)
    with pytest.raises(InputError, match=message) as caught:
        read_adapter(path)
    assert caught.value.reason is Reason.MODEL_INVALID


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter.pth"
    path.write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        read_adapter(path)
