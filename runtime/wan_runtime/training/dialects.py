"""The same LoRA adapter under the key names of three tools: write each, read any.

| dialect | key of a layer's A | experts of a pair |
| --- | --- | --- |
| DiffSynth | `blocks.0.self_attn.q.lora_A.default.weight` | a file each |
| ComfyUI | `diffusion_model.blocks.0.self_attn.q.lora_A.weight` | a file each |
| Diffusers | `transformer.blocks.0.attn1.to_q.lora_A.weight` | a file each, both `transformer.` |

All three add B A to the weights unless the file says otherwise, so what we write holds no alpha.
ComfyUI's names are those of the official checkpoint below `diffusion_model.`, as its messages
print them (Comfy-Org/ComfyUI issue 10222) and as musubi-tuner's docs/wan.md calls "other". It and
kohya's trainers also use `lora_down` and `lora_up` with an alpha for each layer, and
`lora_unet_blocks_0_self_attn_q` for the layer. Diffusers' names are the modules of its
`WanTransformer3DModel`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from wan_runtime.errors import InputError
from wan_runtime.job import Dialect, Reason
from wan_runtime.models.weights import write_safetensors
from wan_runtime.training.lora import ADAPTER

# Shapes: O out and I in features of a layer, R rank. A is [R, I], B is [O, R].

Factors = dict[str, tuple[Tensor, Tensor]]
"""(B, A) of each layer, by its name in the official checkpoint; the layer's weight grows by B A."""

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

DIFFUSERS_CONFIG = "lora_adapter_metadata"
"""Key of the safetensors header below which diffusers keeps peft's LoraConfig."""

_KEY = re.compile(r"(.+)\.(?:(lora_A|lora_down|lora_B|lora_up)(?:\.[^.]+)?\.weight|alpha)")
_SIDES: dict[str | None, str] = {
    "lora_A": "A",
    "lora_down": "A",
    "lora_B": "B",
    "lora_up": "B",
    None: "alpha",
}
_OFFICIAL = {name: name for name in DIFFUSERS}
_PREFIXES: tuple[tuple[str, Dialect, Mapping[str, str]], ...] = (
    ("diffusion_model.", Dialect.COMFYUI, _OFFICIAL),
    ("lora_unet_", Dialect.COMFYUI, {name.replace(".", "_"): name for name in DIFFUSERS}),
    ("transformer.", Dialect.DIFFUSERS, {name: ours for ours, name in DIFFUSERS.items()}),
    ("transformer_2.", Dialect.DIFFUSERS, {name: ours for ours, name in DIFFUSERS.items()}),
    ("", Dialect.DIFFSYNTH, _OFFICIAL),
)


def write_adapter(
    dialect: Dialect, path: Path, factors: Factors, metadata: Mapping[str, str]
) -> None:
    """A file that the tool loads at its default strength of 1 to the deltas B A.

    Raises:
        KeyError: for a layer that no image-to-video transformer has.
    """
    tensors = {}
    for layer, (b, a) in factors.items():
        tensors[key(dialect, layer, "lora_A")] = a
        tensors[key(dialect, layer, "lora_B")] = b
    write_safetensors(path, tensors, metadata)


def key(dialect: Dialect, layer: str, side: str) -> str:
    """Key of `lora_A` or `lora_B` of an official layer."""
    if dialect is Dialect.COMFYUI:
        return f"diffusion_model.{layer}.{side}.weight"
    if dialect is Dialect.DIFFUSERS:
        name = _renamed(layer, DIFFUSERS)
        if name is None:
            raise KeyError(layer)
        return f"transformer.{name}.{side}.weight"
    return f"{layer}.{side}.{ADAPTER}.weight"


def read_adapter(path: Path) -> tuple[Dialect, Factors]:
    """The adapter in a safetensors file of any of the tools, float32, its scale folded into B.

    Raises:
        InputError: MODEL_INVALID, if the file is no LoRA of a Wan image-to-video transformer, with
            the keys found; if it holds both experts; if A and B of a layer do not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _invalid(path, f"cannot be read as safetensors: {error}") from error
    dialects = set[Dialect]()
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        match = _KEY.fullmatch(name)
        place = None if match is None else _place(match[1])
        if match is None or place is None:
            unknown.append(name)
            continue
        dialects.add(place[0])
        if parts.setdefault(place[1], {}).setdefault(_SIDES[match[2]], tensor) is not tensor:
            raise _invalid(path, f"holds {place[1]} twice; give one file for each expert")
    if unknown or not dialects:
        found = ", ".join(sorted(unknown)[:3]) or "none"
        raise _invalid(
            path,
            "is no LoRA of DiffSynth, ComfyUI or Diffusers for a Wan image-to-video model: "
            f"{len(unknown)} of {len(tensors)} keys are not understood, such as {found}",
        )
    if len(dialects) > 1:
        raise _invalid(path, f"mixes the keys of {' and '.join(sorted(dialects))}")
    (dialect,) = dialects
    scale = _scale(path, dialect, metadata)
    return dialect, {layer: _factors(path, layer, parts[layer], scale) for layer in sorted(parts)}


def _place(stem: str) -> tuple[Dialect, str] | None:
    """Dialect and official layer of a key without its ending."""
    for prefix, dialect, names in _PREFIXES:
        if stem.startswith(prefix):
            layer = _renamed(stem.removeprefix(prefix), names)
            return None if layer is None else (dialect, layer)
    return None


def _renamed(layer: str, names: Mapping[str, str]) -> str | None:
    """`names` with the block's number in place of the star."""
    match = re.match(r"blocks[._](\d+)[._]", layer)
    if match is None:
        return names.get(layer)
    name = names.get(layer[: match.start(1)] + "*" + layer[match.end(1) :])
    return None if name is None else name.replace("*", match[1])


def _factors(
    path: Path, layer: str, parts: Mapping[str, Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    if not {"A", "B"} <= parts.keys():
        raise _invalid(path, f"lacks A or B of {layer}")
    a, b = parts["A"].float(), parts["B"].float()
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
        raise _invalid(path, f"B {list(b.shape)} and A {list(a.shape)} of {layer} do not fit")
    if "alpha" in parts:
        scale = float(parts["alpha"]) / a.shape[0]
    return b * scale, a


def _scale(path: Path, dialect: Dialect, metadata: Mapping[str, str]) -> float:
    """alpha / rank where it stands in the header: diffusers' `lora_adapter_metadata`, and the
    files of our own train step, whose factors are as trained.
    """
    if dialect is Dialect.DIFFUSERS and DIFFUSERS_CONFIG in metadata:
        # LoraConfig's fields, each below the name of the model: "transformer.r".
        fields = json.loads(metadata[DIFFUSERS_CONFIG]).items()
        config = {name.rpartition(".")[2]: value for name, value in fields}
        if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("use_rslora"):
            raise _invalid(path, "scales its layers differently; save it with one rank and alpha")
        return float(config["lora_alpha"]) / int(config["r"])
    ours = dialect is Dialect.DIFFSYNTH and {"preset", "rank", "alpha"} <= metadata.keys()
    if ours and metadata.get("alphaFolded") != "true":
        return float(metadata["alpha"]) / int(metadata["rank"])
    return 1.0


def _invalid(path: Path, what: str) -> InputError:
    return InputError(Reason.MODEL_INVALID, f"the adapter {path.name} {what}")
