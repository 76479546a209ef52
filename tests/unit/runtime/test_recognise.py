"""What weights are, by names, dtypes and shapes: every Wan that there is, in every dress."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from diffsynth.configs.model_configs import wan_series
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_vae import VideoVAE38_

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models import recognise, shapes
from wan_runtime.presets import PRESETS
from weight_files import Shapes, header

WAN21, WAN22 = PRESETS["Wan2.1-I2V-14B-720P"], PRESETS["Wan2.2-I2V-A14B"]
DIT21 = dict(shapes.expected(WAN21, "dit"))
DIT22 = dict(shapes.expected(WAN22, "dit"))
LINEAR = "blocks.0.self_attn.q.weight"


def transformer(**change: Any) -> Shapes:
    with skip_model_initialization():
        model = WanModel(**{**shapes.DIT22, **change})
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def refusal(preset: Any, part: str, held: Shapes, **how: Any) -> str:
    with pytest.raises(InputError) as caught:
        shapes.check(preset, part, "file.safetensors", header(held, **how))
    assert caught.value.reason is Reason.MODEL_INVALID
    name, _, text = caught.value.message.partition(": these are not the released weights of ")
    assert name == "file.safetensors"
    return text.removeprefix(f"{preset.name}: ")


KNOWN: dict[str, tuple[Callable[[], Shapes], str]] = {
    "T2V 1.3B": (
        lambda: transformer(in_dim=16, dim=1536, ffn_dim=8960, num_layers=30),
        "Wan2.1-T2V-1.3B",
    ),
    "T2V 14B": (lambda: transformer(in_dim=16), "Wan2.1-T2V-14B or Wan2.2-T2V-A14B"),
    "TI2V 5B": (lambda: transformer(in_dim=48, dim=3072, out_dim=48), "Wan2.2-TI2V-5B"),
    "FLF2V": (
        lambda: transformer(has_image_input=True, has_image_pos_emb=True),
        "Wan2.1-FLF2V (14B)",
    ),
    "Fun InP": (lambda: transformer(has_image_input=True, dim=1536), "Wan-Fun-InP (1.3B)"),
    "Fun Control": (lambda: transformer(in_dim=48), "Wan-Fun-Control (14B)"),
    "Fun Control 2.2": (lambda: transformer(in_dim=52, has_ref_conv=True), "Wan-Fun-Control (14B)"),
    "Camera": (
        lambda: transformer(has_image_input=True, in_dim=32, add_control_adapter=True),
        "Wan-Fun-Camera (14B)",
    ),
    "VACE": (
        lambda: {**transformer(in_dim=16), "vace_blocks.0.before_proj.weight": (1,)},
        "Wan2.1-VACE",
    ),
    "S2V": (
        lambda: {**transformer(in_dim=16), "casual_audio_encoder.weights": (1,)},
        "Wan2.2-S2V (14B)",
    ),
    "Animate": (
        lambda: {**DIT21, "face_adapter.fuser_blocks.0.k_norm.weight": (1,)},
        "Wan2.2-Animate",
    ),
    "HuMo": (
        lambda: {**DIT22, "audio_proj.audio_proj_glob_1.layer.bias": (1,)},
        "driven by audio, such",
    ),
    "SCAIL": (lambda: {**DIT21, "patch_embedding_pose.weight": (1,)}, "SCAIL (14B)"),
    "unheard of": (
        lambda: transformer(in_dim=20, dim=640),
        "a Wan model of 20 channels and width 640",
    ),
}


@cache
def known(case: str) -> Shapes:
    """Built by the tests that need it: each takes a tenth of a second."""
    return KNOWN[case][0]()


@pytest.mark.parametrize("case", KNOWN)
@pytest.mark.parametrize("preset", [WAN21, WAN22], ids=lambda preset: preset.name)
def test_other_wans_are_called_by_their_names(preset: Any, case: str) -> None:
    name = KNOWN[case][1]
    text = refusal(preset, "dit", known(case))
    assert text.startswith("this is the transformer of ")
    assert name in text
    assert text.endswith(f". Fetch Wan-AI/{preset.name}, as it is released")


def test_no_other_transformer_that_diffsynth_knows_is_taken_for_ours() -> None:
    """Its list has every release and what was made of them; those with our very tensors apart."""
    one = {"num_layers": 1}  # as good as forty
    ours = [transformer(**{**shapes.DIT21, **one}), transformer(**one)]
    seen = 0
    for entry in wan_series:
        options = entry.get("extra_kwargs") or {}
        if not entry["model_class"].endswith(".WanModel") or "in_dim" not in options:
            continue
        held = transformer(**{**options, **one})
        family = recognise.recognise(header(held)).family
        assert bool(family) == (held in ours), options
        seen += 1
    assert seen >= 20


def test_the_other_preset_is_named_instead() -> None:
    assert refusal(WAN22, "dit", DIT21) == (
        "this is the transformer of Wan2.1-I2V-14B. Set model.preset to Wan2.1-I2V-14B-720P or "
        "Wan2.1-I2V-14B-480P, or fetch Wan-AI/Wan2.2-I2V-A14B, as it is released"
    )
    assert refusal(WAN21, "dit", DIT22) == (
        "this is the transformer of Wan2.2-I2V-A14B. Set model.preset to Wan2.2-I2V-A14B, or "
        "fetch Wan-AI/Wan2.1-I2V-14B-720P, as it is released"
    )
    shapes.check(PRESETS["Wan2.1-I2V-14B-480P"], "dit", "720P's", header(DIT21))


def test_a_released_transformer_in_any_full_precision_is_taken() -> None:
    for dtype in ("F32", "BF16", "F16"):
        shapes.check(WAN21, "dit", "x", header(DIT21, dtype))
    shapes.check(WAN21, "dit", "x", header(DIT21, "BF16", {"patch_embedding.weight": "F32"}))


PREFIXED = [
    (DIT21, "dit", "model.diffusion_model."),
    (DIT21, "dit", "diffusion_model."),
    (DIT21, "dit", "model."),
    (dict(shapes.expected(WAN21, "vae")), "vae", "model."),
]


@pytest.mark.parametrize(("held", "part", "prefix"), PREFIXED)
def test_names_behind_a_prefix_are_comfyuis(held: Shapes, part: str, prefix: str) -> None:
    text = refusal(WAN21, part, {prefix + name: shape for name, shape in held.items()})
    assert text == (
        f"it bears ComfyUI's names ({prefix}…). Fetch Wan-AI/Wan2.1-I2V-14B-720P, as it is released"
    )


def test_a_checkpoint_with_all_parts_in_one_file() -> None:
    held = {f"model.diffusion_model.{name}": shape for name, shape in DIT22.items()}
    text = refusal(WAN22, "dit", {**held, "vae.conv1.weight": (1,), "text_encoders.x": (1,)})
    assert text.startswith("this is a checkpoint of ComfyUI with all parts in one file")


T5 = dict(shapes.expected(WAN21, "text_encoder"))
CLIP = dict(shapes.expected(WAN21, "image_encoder"))
HUGGING: dict[str, tuple[str, Shapes, str]] = {
    "T5": (
        "text_encoder",
        {"shared.weight": (256384, 4096), "encoder.block.0.layer.0.SelfAttention.q.weight": (1,)},
        "it bears transformers' names (encoder.block.…)",
    ),
    "T5 of another": (
        "text_encoder",
        {"shared.weight": (32128, 4096), "encoder.block.0.layer.0.SelfAttention.q.weight": (1,)},
        "this is a T5 of 32,128 tokens; it bears transformers' names",
    ),
    "CLIP": (
        "image_encoder",
        {"vision_model.embeddings.class_embedding": (1280,)},
        "this is an image encoder of CLIP; it bears transformers' names (vision_model.…)",
    ),
    "VAE": (
        "vae",
        {"decoder.up_blocks.0.resnets.0.conv1.weight": (1,), "encoder.conv_in.weight": (1,)},
        "this is a VAE; it bears diffusers' names (decoder.up_blocks.…)",
    ),
    "transformer": (
        "dit",
        {
            "patch_embedding.weight": (5120, 36, 1, 2, 2),
            "condition_embedder.image_embedder.ff.net.2.weight": (5120, 1280),
            "blocks.0.attn1.to_q.weight": (5120, 5120),
        },
        "it bears diffusers' names (condition_embedder.…)",
    ),
    "VAE in place of T5": (
        "text_encoder", dict(shapes.expected(WAN21, "vae")), "this is the VAE of Wan2.1",
    ),
    "CLIP in place of the transformer": ("dit", CLIP, "this is the image encoder CLIP"),
    "T5 in place of the VAE": ("vae", T5, "this is the text encoder umT5"),
}  # fmt: skip


@pytest.mark.parametrize("case", HUGGING)
def test_other_parts_and_other_names(case: str) -> None:
    part, held, words = HUGGING[case]
    assert refusal(WAN21, part, held).startswith(words)


def test_the_vae_of_the_5b_model_is_another() -> None:
    with skip_model_initialization():
        held = {
            name: tuple(tensor.shape)
            for name, tensor in VideoVAE38_(z_dim=48, dim=160).state_dict().items()
        }
    assert refusal(WAN22, "vae", held).startswith("this is the VAE of Wan2.2-TI2V-5B. Fetch")


STORED: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, str], str]] = {
    "plain fp8": ({}, {LINEAR: "F8_E4M3"}, "FP8 (F8_E4M3, 1 of its 1,303 tensors)"),
    "plain fp8, other": ({}, {LINEAR: "F8_E5M2"}, "FP8 (F8_E5M2, 1 of its"),
    "int8": ({}, {LINEAR: "I8"}, "another precision (I8, 1 of its"),
    "doubles": ({}, {LINEAR: "F64"}, "another precision (F64, 1 of its"),
    "comfy scaled": (
        {"scaled_fp8": (0,), "blocks.0.self_attn.q.scale_weight": ()},
        {LINEAR: "F8_E4M3", "scaled_fp8": "F8_E4M3"},
        "ComfyUI's scaled FP8 (",
    ),
    "kijai scaled": (
        {"blocks.0.self_attn.q.scale_weight": (1,)}, {LINEAR: "F8_E4M3"}, "ComfyUI's scaled FP8 (",
    ),
    "comfy scaled, other": (
        {"scaled_fp8": (2,), "blocks.0.self_attn.q.scale_weight": ()},
        {LINEAR: "F8_E5M2", "scaled_fp8": "F8_E5M2"},
        "ComfyUI's scaled FP8 (scaled_fp8)",
    ),
    "int8 under its names": (
        {"blocks.0.self_attn.q.scale_weight": (40, 40)}, {LINEAR: "I8"}, "8-bit integers with sc",
    ),
    "comfy fp8 layers": (
        {"blocks.0.self_attn.q.comfy_quant": (28,), "blocks.0.self_attn.q.weight_scale": ()},
        {LINEAR: "F8_E4M3"},
        "ComfyUI's quantised layers (blocks.0.self_attn.q.comfy_quant)",
    ),
    "nvfp4": (
        {"blocks.0.self_attn.q.weight_scale": (1,), "blocks.0.self_attn.q.weight_scale_2": ()},
        {LINEAR: "U8", "blocks.0.self_attn.q.weight_scale": "F8_E4M3"},
        "FP8 or integers with scales (blocks.0.self_attn.q.weight_scale",
    ),
    "hqq": ({"blocks.0.self_attn.q.W_q": (1,)}, {}, "HQQ's integers (blocks.0.self_attn.q.W_q)"),
    "compressed": (
        {"blocks.0.self_attn.q.weight_packed": (1,), "blocks.0.self_attn.q.weight_scale": (1,)},
        {},
        "compressed-tensors' packed weights (blocks.",
    ),
    "torchao": (
        {"blocks.0.self_attn.q._weight_qdata": (1,), "blocks.0.self_attn.q._weight_scale": (1,)},
        {},
        "torchao's quantised tensors (blocks.",
    ),
    "comfy layers": (
        {"blocks.0.self_attn.q.comfy_quant": (40,), "blocks.0.self_attn.q.weight_scale": ()},
        {LINEAR: "I8"},
        "ComfyUI's quantised layers (blocks.0.self_attn.q.comfy_quant)",
    ),
    "lightx2v": (
        {"blocks.0.self_attn.q.weight_scale": (5120, 1)}, {LINEAR: "I8"}, "FP8 or integers with",
    ),
    "nf4": (
        {f"{LINEAR}.quant_state.bitsandbytes__nf4": (90,), f"{LINEAR}.absmax": (1,)},
        {LINEAR: "U8"},
        "4 bits of bitsandbytes (nf4 or fp4)",
    ),
    "bnb int8": ({"blocks.0.self_attn.q.SCB": (5120,)}, {LINEAR: "I8"}, "8 bits of bitsandbytes"),
    "awq": ({"blocks.0.self_attn.q.qweight": (1,)}, {}, "GPTQ's or AWQ's integers"),
    "nunchaku": (
        {"blocks.0.self_attn.q.qweight": (1,), "blocks.0.self_attn.q.wscales": (1,)},
        {},
        "4 bits of Nunchaku (SVDQuant)",
    ),
    "quanto": ({f"{LINEAR}._data": (1,), f"{LINEAR}._scale": (1,)}, {}, "quanto's integers"),
}  # fmt: skip


@pytest.mark.parametrize("case", STORED)
def test_quantised_weights_are_called_by_their_kind(case: str) -> None:
    more, dtypes, kind = STORED[case]
    text = refusal(WAN21, "dit", {**DIT21, **more}, dtypes=dtypes)
    assert text.startswith(f"it is stored in {kind}")
    assert text.endswith(
        ", and float32, bfloat16 and float16 are read. Fetch Wan-AI/Wan2.1-I2V-14B-720P, as it is "
        "released: training.basePrecision: FP8 keeps it in 8 bits on the GPU"
    )


@pytest.mark.parametrize(
    ("part", "held"),
    [("text_encoder", T5), ("image_encoder", CLIP), ("vae", dict(shapes.expected(WAN21, "vae")))],
)
def test_every_part_is_looked_at(part: str, held: Shapes) -> None:
    text = refusal(WAN21, part, held, dtypes={next(iter(held)): "F8_E4M3"})
    assert text.startswith(f"it is stored in FP8 (F8_E4M3, 1 of its {len(held):,} tensors)")


def test_all_that_is_wrong_is_said_at_once() -> None:
    held = {f"model.diffusion_model.{name}": shape for name, shape in known("T2V 14B").items()}
    text = refusal(WAN22, "dit", held, dtype="F8_E4M3")
    for words in ("of Wan2.1-T2V-14B or", "ComfyUI's names", "FP8 (F8_E4M3, 1,095 of its 1,095"):
        assert words in text


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
        "blocks.0.self_attn.q.lora_A.default.weight",
        "lora_unet_blocks_0_self_attn_q.lora_down.weight",
        "transformer.blocks.0.attn1.to_q.lora_B.weight",
        "lycoris_blocks_0_self_attn_q.hada_w1_a",
    ],
)
def test_an_adapter_is_no_base_model(name: str) -> None:
    assert refusal(WAN21, "dit", {name: (32, 5120)}) == (
        "this is an adapter (LoRA), not a base model. method.lora.initFrom or an adapter of a "
        "service takes it; for the model, fetch Wan-AI/Wan2.1-I2V-14B-720P, as it is released"
    )


def test_tiny_models_come_with_the_runtime() -> None:
    text = refusal(PRESETS["Wan2.1-I2V-Tiny"], "dit", DIT21)
    assert text.startswith("this is the transformer of Wan2.1-I2V-14B. Set model.preset to Wan2.1-")
    assert text.endswith("or leave out model.source: the runtime makes Wan2.1-I2V-Tiny by itself")


def test_what_is_missing_is_named_where_nothing_else_is_wrong() -> None:
    held = {name: shape for name, shape in DIT21.items() if not name.startswith("blocks.3.")}
    text = refusal(WAN21, "dit", {**held, "extra.bias": (5,)})
    count = len(DIT21) - len(held)
    assert text.startswith(f"{count} tensors are missing (blocks.3.cross_attn.k.bias, ")
    assert "1 tensors are not of this model (extra.bias)" in text
