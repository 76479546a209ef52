"""Files that are no LoRA of a Wan image-to-video transformer: said by their address and kind."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from adapters import random_factors, state
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.changes import LONGEST
from wan_runtime.models.adapters.dialects import read_adapter

ADDRESS = "s3://bucket/styles/fairy.safetensors"
Q = "blocks.0.self_attn.q"
GOOD = state(random_factors({Q: (6, 4)}), "diffusion_model.{}")


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_adapter(path, ADDRESS)
    assert caught.value.reason is Reason.MODEL_INVALID
    assert caught.value.message.startswith(f"{ADDRESS} ")
    return caught.value.message.removeprefix(f"{ADDRESS} ")


def ones(*keys: str, shape: tuple[int, ...] = (2, 2)) -> dict[str, Tensor]:
    return {key: torch.ones(shape) for key in keys}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            GOOD | ones("lora_unet_blocks_0_ffn_0.dora_scale"),
            "is an adapter of the kind DoRA: 1 of its 3 keys are like lora_unet_blocks_0_ffn",
        ),
        (
            GOOD | ones(f"base_model.model.{Q}.lora_magnitude_vector.default.weight"),
            "of the kind DoRA",
        ),
        (ones("lora_unet_blocks_0_ffn_0.hada_w1_a"), "of the kind LoHa: 1 of its 1 keys"),
        (ones("lycoris_blocks_0_attn1_to_q.lokr_w1"), "of the kind LoKr"),
        (ones(f"diffusion_model.{Q}.lokr_w2_a"), "of the kind LoKr"),
        (ones(f"diffusion_model.{Q}.oft_blocks"), "of the kind OFT or BOFT"),
        (ones(f"base_model.model.{Q}.oft_R.weight"), "of the kind OFT or BOFT"),
        (ones(f"base_model.model.{Q}.boft_R"), "of the kind OFT or BOFT"),
        (ones("lora_unet_blocks_0_ffn_0.a1.weight"), "of the kind GLoRA"),
        (ones("lora_unet_blocks_0_ffn_0.on_input"), "of the kind (IA)3"),
        (ones(f"base_model.model.{Q}.vera_lambda_b"), "of the kind VeRA"),
        (GOOD | ones(f"diffusion_model.{Q}.lora_mid.weight"), "of the kind LoCon with a Tucker"),
        (
            GOOD | ones("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"),
            "is for another model: 1 of its 3 keys, such as lora_te_text_model_encoder_layers_0_mlp"
            "_fc1.lora_down.weight, are of the text encoder, which is not adapted here",
        ),
        (ones("text_encoder.layers.0.q.lora_A.weight"), "are of the text encoder"),
        (ones("lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"), "Flux or HunyuanVideo"),
        (ones("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"), "Flux or Hun"),
        (ones("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"), "Stable Diffusion"),
        (ones("unet.up_blocks.0.attentions.0.to_q.lora_A.weight"), "Stable Diffusion"),
        (ones("lora_unet_input_blocks_1_1_proj_in.alpha"), "Stable Diffusion"),
        (ones("transformer_blocks.0.attn.add_q_proj.lora_A.default.weight"), "Qwen-Image"),
        (ones(f"vace_{Q}.lora_A.weight"), "are of Wan VACE"),
        (
            ones(f"{Q}.weight", f"{Q}.bias", "head.head.weight"),
            "holds whole weights, not an adapter: 3 of its 3 keys are like blocks.0.self_attn.q.bi",
        ),
        (ones("blocks.0.attn1.to_q.weight", "proj_out.weight"), "holds whole weights"),
        (ones("model.diffusion_model.blocks.0.ffn.2.weight"), "holds whole weights"),
        (ones("layers.0.attention.to_q.lora_A.weight"), "1 of its 1 keys are not understood"),
        (ones(f"{Q}.lora_A.weight", f"{Q}.scale_weight"), "1 of its 2 keys are not understood"),
        (ones("blocks.0.diff", f"{Q}.diff_m"), "2 of its 2 keys are not understood"),
        ({}, "holds no tensors"),
    ],
)
def test_what_a_file_is_instead_is_said(
    tensors: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x")
    assert said in refused(tmp_path / "x")


def test_kinds_come_with_what_helps(tmp_path: Path) -> None:
    save_file(ones("lora_unet_blocks_0_ffn_0.hada_w1_a"), tmp_path / "x")
    assert "train it again as plain LoRA, or merge it into the model" in refused(tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{Q}.lora_B.weight": None}, f"lacks A or B of {Q}"),
        (
            {f"{Q}.lora_A.weight": torch.ones(3, 4)},
            "has factors of blocks.0.self_attn.q that do not fit: B [6, 2] and A [3, 4]",
        ),
        ({f"{Q}.lora_A.weight": torch.ones(4)}, "that do not fit: B [6, 2] and A [4]"),
        (
            {f"{Q}.lora_A.weight": torch.ones(0, 4), f"{Q}.lora_B.weight": torch.ones(6, 0)},
            "that do not fit: B [6, 0] and A [0, 4]",
        ),
        ({f"{Q}.alpha": torch.ones(2)}, f"has an alpha of 2 numbers at {Q}: it is to be one"),
        ({f"{Q}.alpha": torch.tensor(float("nan"))}, f"holds NaN or infinity at {Q}"),
        ({f"{Q}.lora_B.weight": torch.full((6, 2), float("nan"))}, "its training failed"),
        ({f"{Q}.lora_A.weight": torch.full((2, 4), float("inf"))}, f"holds NaN or infinity at {Q}"),
        ({f"{Q}.diff_b": torch.full((6,), float("-inf"))}, f"holds NaN or infinity at {Q}"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 4, dtype=torch.int8)}, "in int8: quantised adapters"),
        ({f"{Q}.lora_A.default.weight": torch.ones(2, 4)}, "holds blocks.0.self_attn.q twice"),
    ],
)
def test_tensors_that_cannot_be_meant(
    change: dict[str, Tensor | None], said: str, tmp_path: Path
) -> None:
    tensors = dict(GOOD)
    for name, tensor in change.items():
        tensors.pop(f"diffusion_model.{name}", None)
        if tensor is not None:
            tensors[f"diffusion_model.{name}"] = tensor
    save_file(tensors, tmp_path / "x")
    assert said in refused(tmp_path / "x")


def test_words_of_a_file_are_cut_and_printable(tmp_path: Path) -> None:
    save_file(ones("a\n\x00\x1b[31m" + "x" * 9999), tmp_path / "x")
    message = refused(tmp_path / "x")
    assert len(message) == LONGEST
    assert message.isprintable()
    assert "a\ufffd\ufffd\ufffd[31mxxx" in message


def test_small_factors_of_an_enormous_convolution_are_refused(tmp_path: Path) -> None:
    stem = "diffusion_model.patch_embedding"
    down, up = torch.ones(1, 2**14, 1, 1, 1), torch.ones(2**14, 1, 1, 1, 1)
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, tmp_path / "x")
    assert "has factors of patch_embedding that do not fit" in refused(tmp_path / "x")


def test_one_layer_under_two_tools_names_is_refused(tmp_path: Path) -> None:
    factors = random_factors({Q: (6, 4)})
    save_file(state(factors, "diffusion_model.{}") | state(factors), tmp_path / "x")
    assert "holds blocks.0.self_attn.q twice; give one file for each expert" in refused(
        tmp_path / "x"
    )
    others = random_factors({"blocks.1.self_attn.q": (6, 4)})
    mixed = state(factors, "diffusion_model.{}") | state(others, "transformer.{theirs}")
    save_file(mixed, tmp_path / "x")
    assert "mixes the layer names of the official checkpoint and of diff" in refused(tmp_path / "x")


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.ones(2)}, file)
    return file.getvalue()


WHOLE = save(GOOD)
HEADER = struct.unpack("<Q", WHOLE[:8])[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (pickled(), "is a pickle of PyTorch, whatever its name"),
        (b"\x80\x02}q\x00.", "is a pickle of PyTorch"),
        (b"GGUF\x03\x00\x00\x00" + bytes(64), "is a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b'{"base_model_name_or_path": ""}', "is JSON"),
        (
            WHOLE[:-1],
            f"is cut off: it has {len(WHOLE) - 1} bytes, and its header says {len(WHOLE)}",
        ),
        (WHOLE[: 8 + HEADER], f"is cut off: it has {8 + HEADER} bytes"),
        (WHOLE[: 8 + HEADER // 2], f"is cut off: it has {8 + HEADER // 2} bytes"),
        (WHOLE + b"more", f"is damaged: it has {len(WHOLE) + 4} bytes, and its header says"),
        (save({}), "holds no tensors"),
        (b"\x1f\x8b\x08" + bytes(64), "is compressed with gzip: unpack it"),
        (b"Rar!\x1a\x07" + bytes(64), "is a RAR archive: unpack it"),
        (b"Invalid username or password.", "is no safetensors file, or a damaged one"),
        (struct.pack("<Q", 16) + b'{"a": "nothing"}', "is no safetensors file"),
        (b"anything else", "is no safetensors file"),
    ],
)
def test_what_is_no_safetensors_file_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert said in refused(path)


@pytest.mark.parametrize("type_", ["F4", "F8_E8M0", "BOOL", "I64", "C64", "U16"])
def test_numbers_that_need_more_than_themselves_are_refused(type_: str, tmp_path: Path) -> None:
    half = {"F4": 4, "I64": 64, "C64": 64, "U16": 16}.get(type_, 8)  # bytes of 8 numbers
    entries = {
        f"{Q}.lora_{side}.weight": {"dtype": type_, "shape": shape, "data_offsets": [at, at + half]}
        for side, shape, at in (("A", [2, 4], 0), ("B", [4, 2], half))
    }
    header = json.dumps(entries).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2 * half))
    assert "quantised adapters are not read" in refused(tmp_path / "x")


@pytest.mark.parametrize(
    "kind", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64]
)
def test_numbers_of_any_width_are_read(kind: torch.dtype, tmp_path: Path) -> None:
    save_file(
        {name: torch.ones(each.shape).to(kind) for name, each in GOOD.items()}, tmp_path / "x"
    )
    [(b, a)] = read_adapter(tmp_path / "x").parts["Only"].factors.values()
    assert (b.dtype, a.dtype) == (torch.float32, torch.float32)
    assert torch.equal(b @ a, torch.full((6, 4), 2.0))
