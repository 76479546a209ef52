"""What a file of weights is, by the names, dtypes and shapes of its tensors.

Names are those of Wan-Video's own code, of ComfyUI (the same behind a prefix), and of diffusers and
transformers. Markers of the variants: ComfyUI's comfy/model_detection.py and diffsynth's list of
models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wan_runtime.models.headers import Header

FULL = ("F32", "BF16", "F16")
"""Dtypes in which weights are released, and loaded as they are meant."""
PREFIXED = re.compile(
    r"(?P<prefix>(?:model\.)?diffusion_model\.|model\.(?:model\.)?|module\.|net\.)"
    r"(?:blocks\.0|patch_embedding|head|encoder|decoder)\."
)
"""A released name, with what tools put before it."""

ADAPTER = re.compile(r"(^|[._])(lora_[A-Za-z]+|hada_w\d|lokr_w\d|diff_b|dora_scale)(\.|_|$)")
SCALED = "ComfyUI's scaled FP8"
QUANTISED = (
    (re.compile(r"\.quant_state\.bitsandbytes__"), "4 bits of bitsandbytes (nf4 or fp4)"),
    (re.compile(r"\.SCB$"), "8 bits of bitsandbytes"),
    (re.compile(r"\.(wscales|smooth_factor)$"), "4 bits of Nunchaku (SVDQuant)"),
    (re.compile(r"\.W_q$"), "HQQ's integers"),
    (re.compile(r"\.weight_packed$"), "compressed-tensors' packed weights"),
    (re.compile(r"\._?weight_qdata$"), "torchao's quantised tensors"),
    (re.compile(r"\.(qweight|qzeros|g_idx)$"), "GPTQ's or AWQ's integers"),
    (re.compile(r"\.comfy_quant$"), "ComfyUI's quantised layers"),
    (re.compile(r"(^|\.)scaled_fp8$"), SCALED),
    (re.compile(r"\.scale_(weight|input)$"), SCALED),
    (re.compile(r"\.(weight|input)_scale(_2)?$"), "FP8 or integers with scales"),
    (re.compile(r"\._(data|scale)$"), "quanto's integers"),
)
"""Names that only quantised files have. More telling ones come first."""

MARKERS = (
    ("vace_", "Wan2.1-VACE"),
    ("casual_audio_encoder.", "Wan2.2-S2V"),
    ("face_adapter.", "Wan2.2-Animate"),
    ("pose_patch_embedding.", "Wan2.2-Animate"),
    ("audio_proj.", "a Wan model driven by audio, such as HuMo or InfiniteTalk,"),
    ("music_", "Wan-Dancer"),
    ("patch_embedding_pose.", "SCAIL"),
    ("control_adapter.", "Wan-Fun-Camera"),
    ("img_emb.emb_pos", "Wan2.1-FLF2V"),
    ("condition_embedder.image_embedder.pos_embed", "Wan2.1-FLF2V"),
    ("ref_conv.", "Wan-Fun-Control"),
)
"""Beginnings of names that one kind of transformer has beside what all have -> its name."""
SIZES = {1536: "1.3B", 3072: "5B", 5120: "14B"}
"""Width -> what a model of it is called."""
IMAGE_TO_VIDEO = {
    (True, 5120): "Wan2.1-I2V-14B",
    (False, 5120): "Wan2.2-I2V-A14B",
    (True, 128): "Wan2.1-I2V-Tiny",
    (False, 128): "Wan2.2-I2V-Tiny",
}
"""(whether the picture also enters through CLIP, width) -> model, of 36 channels."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file, or the shards of one, seem to be."""

    part: str
    """`dit`, `text_encoder`, `vae`, `image_encoder`, `adapter`, `checkpoint` or empty."""
    what: str
    """`the transformer of Wan2.1-T2V-14B`; empty if it is nothing that is known."""
    family: str = ""
    """Family of a transformer for image to video: `Wan2.1-I2V-14B`."""
    naming: str = ""
    """Whose names it bears, if not the release's: `ComfyUI's names (model.diffusion_model.…)`."""


def precision(header: Header) -> str:
    """How the weights are stored, if not in full precision; empty if they are."""
    for pattern, kind in QUANTISED:
        for name in header.tensors:
            if pattern.search(name):
                return f"{_kind(header, kind)} ({name})"
    counts = {dtype: count for dtype, count in header.dtypes().items() if dtype not in FULL}
    if not counts:
        return ""
    dtype = max(counts, key=lambda each: counts[each])
    kind = "FP8" if dtype.startswith("F8") else "another precision"
    return f"{kind} ({dtype}, {counts[dtype]:,} of its {len(header.tensors):,} tensors)"


def _kind(header: Header, kind: str) -> str:
    """The kind, where tools write integers under the names of ComfyUI's scaled FP8."""
    integers = header.dtypes()["I8"] and not any(each.startswith("F8") for each in header.dtypes())
    return "8-bit integers with scales" if kind == SCALED and integers else kind


def recognise(header: Header) -> Recognised:
    """Recognise weights by the names and shapes of their tensors, whatever their precision."""
    names = header.tensors.keys()
    if any(map(ADAPTER.search, names)):
        return Recognised("adapter", "an adapter (LoRA), not a base model")
    prefix = prefix_of(names)
    shapes = {
        name.removeprefix(prefix): shape
        for name, shape in header.shapes.items()
        if name.startswith(prefix)
    }
    naming = f"ComfyUI's names ({prefix}…)" if prefix else ""
    if prefix and _has(names, "first_stage_model.", "vae."):
        return Recognised("checkpoint", "a checkpoint of ComfyUI with all parts in one file")
    if "patch_embedding.weight" in shapes:
        return _transformer(shapes, naming)
    return _encoder(shapes, naming)


def prefix_of(names: Iterable[str]) -> str:
    """What stands before the released names of a transformer or a VAE."""
    found = next(filter(None, map(PREFIXED.match, names)), None)
    return found["prefix"] if found else ""


def _transformer(shapes: Mapping[str, tuple[int, ...]], naming: str) -> Recognised:
    width, channels = (*shapes["patch_embedding.weight"], 0, 0)[:2]
    if _has(shapes, "condition_embedder."):
        naming = "diffusers' names (condition_embedder.…)"
    size = SIZES.get(width, f"width {width}")
    clip = _has(shapes, "img_emb.", "condition_embedder.image_embedder.")
    family = ""
    model = next((model for marker, model in MARKERS if _has(shapes, marker)), "")
    if model:
        model = f"{model} ({size})"
    elif channels == 36 and (clip, width) in IMAGE_TO_VIDEO:
        model = family = IMAGE_TO_VIDEO[clip, width]
    elif channels == 36:
        model = f"Wan-Fun-InP ({size})"
    elif channels == 16:
        model = f"Wan2.1-T2V-{size}" + (" or Wan2.2-T2V-A14B" if width == 5120 else "")
    elif (channels, width) == (48, 3072):
        model = "Wan2.2-TI2V-5B"
    elif channels in (48, 52):
        model = f"Wan-Fun-Control ({size})"
    else:
        model = f"a Wan model of {channels} channels and {size}"
    return Recognised("dit", f"the transformer of {model}", family, naming)


def _encoder(shapes: Mapping[str, tuple[int, ...]], naming: str) -> Recognised:
    if "token_embedding.weight" in shapes and _has(shapes, "blocks.0.attn."):
        return Recognised("text_encoder", "the text encoder umT5", naming=naming)
    if _has(shapes, "encoder.block.0.layer."):
        rows = (*shapes.get("shared.weight", ()), 0)[0]
        what = "the text encoder umT5" if rows in (0, 256384) else f"a T5 of {rows:,} tokens"
        return Recognised("text_encoder", what, naming="transformers' names (encoder.block.…)")
    if _has(shapes, "visual.transformer.", "visual.patch_embedding."):
        return Recognised("image_encoder", "the image encoder CLIP", naming=naming)
    if _has(shapes, "vision_model."):
        naming = "transformers' names (vision_model.…)"
        return Recognised("image_encoder", "an image encoder of CLIP", naming=naming)
    if _has(shapes, "decoder.conv1.", "decoder.middle.") and "conv2.weight" in shapes:
        latent = shapes["conv2.weight"][0]
        what = "the VAE of Wan2.2-TI2V-5B" if latent == 48 else "the VAE of Wan2.1"
        return Recognised("vae", what, naming=naming)
    if _has(shapes, "decoder.mid_block.", "decoder.up_blocks."):
        return Recognised("vae", "a VAE", naming="diffusers' names (decoder.up_blocks.…)")
    return Recognised("", "", naming=naming)


def _has(names: Iterable[str], *beginnings: str) -> bool:
    return any(name.startswith(beginnings) for name in names)
