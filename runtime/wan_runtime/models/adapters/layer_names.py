"""Names of the transformer's layers as tools write them, and which official one each means.

A key of a file is `<wrappers><layer><ending>`. The layer has the official checkpoint's name or that
of diffusers' `WanTransformer3DModel`. Wrappers are what the model lay in when it was saved, of
which several may follow one another: `transformer.base_model.model.`, `pipe.dit.`. Trainers in
kohya's manner write one word instead: `lora_unet_blocks_0_self_attn_q`, at times with dots left in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wan_runtime.contract.steps import Expert

ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
DIFFUSERS = {
    **{f"blocks.*.self_attn.{ours}": f"blocks.*.attn1.{name}" for ours, name in ATTENTION.items()},
    **{f"blocks.*.cross_attn.{ours}": f"blocks.*.attn2.{name}" for ours, name in ATTENTION.items()},
    "blocks.*.cross_attn.k_img": "blocks.*.attn2.add_k_proj",
    "blocks.*.cross_attn.v_img": "blocks.*.attn2.add_v_proj",
    "blocks.*.ffn.0": "blocks.*.ffn.net.0.proj",
    "blocks.*.ffn.2": "blocks.*.ffn.net.2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "head.head": "proj_out",
}
"""Every linear layer of the image-to-video transformers: official name -> diffusers'."""
OTHERS = {
    "patch_embedding": "patch_embedding",
    "blocks.*.self_attn.norm_q": "blocks.*.attn1.norm_q",
    "blocks.*.self_attn.norm_k": "blocks.*.attn1.norm_k",
    "blocks.*.cross_attn.norm_q": "blocks.*.attn2.norm_q",
    "blocks.*.cross_attn.norm_k": "blocks.*.attn2.norm_k",
    "blocks.*.cross_attn.norm_k_img": "blocks.*.attn2.norm_added_k",
    "blocks.*.norm3": "blocks.*.norm2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
}
"""The convolution and the norms that have weights."""
MODULATED = ("blocks.*", "head")
"""What has a parameter `modulation` of its own."""
WRAPPERS = frozenset(
    {
        *("pipe", "dit", "dit2", "model", "diffusion_model", "unet", "transformer"),
        *("transformer_2", "base_model", "module", "_orig_mod", "_fsdp_wrapped_module"),
    }
)
SECOND = frozenset({"dit2", "transformer_2"})
"""Wrappers of the second transformer of a pipeline: the low-noise expert."""
COMFYUI, WORD = "diffusion_model", "lora_unet"
"""Wrappers of which dialects are known; WORD of layers that are written as one."""
_WORD = re.compile(r"(?:lora_unet_?|lora_transformer|lycoris)_(.+)")
_BLOCK = re.compile(r"blocks[._](\d+)(?![^._])")
_IMAGE = re.compile(r"blocks\.\d+\.cross_attn\.(k_img|v_img|norm_k_img)\.|img_emb\.")


def _underscored(name: str) -> str:
    return name.replace(".", "_")


_OFFICIAL = {name: name for name in (*DIFFUSERS, *OTHERS, *MODULATED)}
_THEIRS = {theirs: ours for ours, theirs in {**DIFFUSERS, **OTHERS}.items()}
_BOTH = _THEIRS | _OFFICIAL
_WORDS = {_underscored(name): (name, ours) for name, ours in _BOTH.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """What a key's stem means."""

    layer: str
    """Official name."""
    pattern: str
    """The same with a star for the block's number."""
    expert: Expert
    """LOW_NOISE where the stem says so, else ONLY: it may be of any."""
    wrapper: str
    """Wrapper of the model, where it shows the tool: COMFYUI, WORD, "transformer" or none."""
    official: bool | None
    """Whether it is the official name or diffusers'; None where they are alike."""


def place_of(stem: str) -> Place | None:
    """The layer that a key without its ending names; None for one that no image-to-video
    transformer has."""
    word = _WORD.fullmatch(stem)
    if word is not None:
        pattern, number = _starred(word[1].replace(".", "_"))
        found = _WORDS.get(pattern)
        return None if found is None else _place(*found, number, Expert.ONLY, WORD)
    parts = stem.split(".")
    wrappers = []
    while len(parts) > 1 and parts[0] in WRAPPERS:
        wrappers.append(parts.pop(0))
    pattern, number = _starred(".".join(parts))
    ours = _BOTH.get(pattern)
    if ours is None:
        return None
    expert = Expert.LOW_NOISE if SECOND.intersection(wrappers) else Expert.ONLY
    wrapper = COMFYUI if COMFYUI in wrappers else ""
    if not wrapper and any(each.startswith("transformer") for each in wrappers):
        wrapper = "transformer"
    return _place(pattern, ours, number, expert, wrapper)


def _place(name: str, ours: str, number: str, expert: Expert, wrapper: str) -> Place:
    alike = name in _THEIRS and name in _OFFICIAL
    return Place(
        layer=ours.replace("*", number),
        pattern=ours,
        expert=expert,
        wrapper=wrapper,
        official=None if alike else name in _OFFICIAL,
    )


def _starred(name: str) -> tuple[str, str]:
    """The name with a star for the block's number, and that number; empty if there is none."""
    match = _BLOCK.match(name)
    if match is None:
        return name, ""
    return f"{name[: match.start(1)]}*{name[match.end(1) :]}", match[1]


def diffusers_name(layer: str) -> str | None:
    """Name of an official linear layer in diffusers; None for one that is not in DIFFUSERS."""
    pattern, number = _starred(layer)
    name = DIFFUSERS.get(pattern)
    return None if name is None else name.replace("*", number)


def is_image_branch(parameter: str) -> bool:
    """Whether a parameter belongs to what Wan2.1 has for CLIP's view of the first frame, and Wan2.2
    lacks."""
    return _IMAGE.match(parameter) is not None
