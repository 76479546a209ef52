"""The same LoRA adapter under the key names of many tools: write those of three, read any.

| dialect | key of a layer's A | experts of a pair |
| --- | --- | --- |
| DiffSynth | `blocks.0.self_attn.q.lora_A.default.weight` | a file each |
| ComfyUI | `diffusion_model.blocks.0.self_attn.q.lora_A.weight` | a file each |
| Diffusers | `transformer.blocks.0.attn1.to_q.lora_A.weight` | a file each, both `transformer.` |

All three add B A to the weights unless the file says otherwise, so what we write holds no alpha.
ComfyUI's names are those of the official checkpoint below `diffusion_model.`, as its messages
print them (Comfy-Org/ComfyUI issue 10222) and as musubi-tuner's docs/wan.md calls "other".
Diffusers' names are the modules of its `WanTransformer3DModel`.

Read are also all names of `layer_names`, `lora_down` and `lora_up` with an alpha for each layer, a
bias beside B (peft's `lora_bias`), and what distilled adapters hold beside their factors: `diff` of
a weight, `diff_b` of a bias, `diff_m` of a modulation (ModelTC/LightX2V, tools/extract).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wan_runtime.job import Dialect, Expert
from wan_runtime.models.weights import write_safetensors
from wan_runtime.training import foreign, strength
from wan_runtime.training.changes import Adapter, Changes, Factors, dimensions, invalid
from wan_runtime.training.layer_names import (
    COMFYUI,
    MODULATED,
    WORD,
    Place,
    diffusers_name,
    place_of,
)
from wan_runtime.training.lora import ADAPTER

# Shapes: O out and I in features of a layer, R rank, K a convolution's kernel. A is [R, I] or
# [R, I, K], B is [O, R] or [O, R, 1].

_DOWN, _UP = (
    rf"(?:\.(?:lora_{letter}|lora_{way}|lora\.{way}|lora_linear_layer\.{way})|_lora\.{way})"
    for letter, way in (("A", "down"), ("B", "up"))
)
_KEY = re.compile(
    rf"(.+?)(?:(?P<A>{_DOWN}(?:\.[^.]+)?\.weight)|(?P<B>{_UP}(?:\.[^.]+)?\.weight)"
    rf"|(?P<B_bias>{_UP}(?:\.[^.]+)?\.bias)|(?P<alpha>\.alpha)"
    r"|(?P<weight>\.diff|\.w_norm)|(?P<bias>\.diff_b|\.b_norm)|(?P<modulation>\.diff_m))"
)
"""`w_norm` and `b_norm` are LyCORIS's names of a norm's differences."""

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)
"""In which numbers are written as they are; others are parts of a quantised tensor."""
Layers = dict[str, dict[str, Tensor]]
"""Tensors by their group's name in _KEY, by layer."""


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
        name = diffusers_name(layer)
        if name is None:
            raise KeyError(layer)
        return f"transformer.{name}.{side}.weight"
    return f"{layer}.{side}.{ADAPTER}.weight"


def read_adapter(path: Path, address: str = "") -> Adapter:
    """The adapter in a safetensors file of any of the tools, float32, its scale folded into B.

    `address`: where the file is from, for messages; by default its path.

    Raises:
        InputError: MODEL_INVALID, if the file is no LoRA of a Wan image-to-video transformer, with
            what it is or the keys found; if its header cannot be read; if A and B of a layer do not
            fit; if a number is not finite.
    """
    address = address or str(path)
    header, tensors = _read(path, address)
    placed, unknown = _placed(tensors)
    if unknown or not placed:
        found = ", ".join(sorted(unknown)[:3]) or "none"
        raise invalid(
            address,
            foreign.kind_of(tensors.keys())
            or "is no LoRA of DiffSynth, ComfyUI or Diffusers for a Wan image-to-video model: "
            f"{len(unknown)} of its {len(tensors)} keys are not understood, such as {found}",
        )
    places = [place for place, _ in placed.values()]
    if {True, False} <= {place.official for place in places}:
        raise invalid(address, "mixes the layer names of the official checkpoint and of diffusers")
    experts = _experts(address, places, header)
    parts: dict[Expert, Layers] = {expert: {} for expert in experts.values()}
    for name, (place, group) in placed.items():
        layer = parts[experts[place.expert]].setdefault(place.layer, {})
        if layer.setdefault(group, tensors[name]) is not tensors[name]:
            raise invalid(address, f"holds {place.layer} twice; give one file for each expert")
    # The header is not looked at where all layers have an alpha of their own.
    untold = frozenset(expert for expert in parts if any(map(_needs_scale, parts[expert].values())))
    kohya = all(each.wrapper == WORD for each in places)
    configs = strength.configs(address, header, untold, kohya=kohya)
    return Adapter(
        _dialect(places),
        {expert: _changes(address, parts[expert], configs.get(expert)) for expert in sorted(parts)},
    )


def is_adapter(keys: Iterable[str]) -> bool:
    """Whether a file's keys are an adapter's, of whatever kind."""
    return any(_KEY.fullmatch(key) or foreign.of_kind(key) for key in keys)


def _read(path: Path, address: str) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Header and tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise invalid(address, foreign.opening(path)) from error


def _placed(names: Mapping[str, Tensor]) -> tuple[dict[str, tuple[Place, str]], list[str]]:
    """Place and group of each key; and those without."""
    placed, unknown = {}, []
    for name in names:
        match = _KEY.fullmatch(name)
        place = None if match is None else place_of(match[1])
        group = None if match is None else match.lastgroup
        if (
            place is None
            or group is None
            or (place.pattern in MODULATED) != (group == "modulation")
        ):
            unknown.append(name)
        else:
            placed[name] = (place, group)
    return placed, unknown


def _dialect(places: list[Place]) -> Dialect:
    if any(place.wrapper in (COMFYUI, WORD) for place in places):
        return Dialect.COMFYUI
    if any(place.wrapper or place.official is False for place in places):
        return Dialect.DIFFUSERS
    return Dialect.DIFFSYNTH


def _experts(address: str, places: list[Place], header: Mapping[str, str]) -> dict[Expert, Expert]:
    """Whose the factors are, by what their keys say: ONLY or LOW_NOISE. Where keys say nothing, our
    own files say it in their header; beside a second transformer, the first is meant."""
    said = {place.expert for place in places}
    if len(said) == 2:
        return {Expert.ONLY: Expert.HIGH_NOISE, Expert.LOW_NOISE: Expert.LOW_NOISE}
    (only,) = said
    if only is Expert.ONLY and "preset" in header:
        try:
            return {only: Expert(header.get("expert", only))}
        except ValueError:
            raise invalid(address, f"has expert {header['expert']!r} in its header") from None
    return {only: only}


def _needs_scale(tensors: Mapping[str, Tensor]) -> bool:
    return "B" in tensors and "alpha" not in tensors


def _changes(address: str, layers: Layers, config: strength.Config | None) -> Changes:
    factors: Factors = {}
    differences: dict[str, Tensor] = {}
    for layer in sorted(layers):
        tensors = {
            group: _number(address, layer, tensor, group) for group, tensor in layers[layer].items()
        }
        if {"A", "B", "B_bias", "alpha"} & tensors.keys():
            _multiply(address, layer, tensors, config, factors, differences)
        for group in ("weight", "bias", "modulation"):
            if group in tensors:
                _add(differences, f"{layer}.{group}", tensors[group])
    return Changes(address, factors, differences)


def _multiply(
    address: str,
    layer: str,
    tensors: Mapping[str, Tensor],
    config: strength.Config | None,
    factors: Factors,
    differences: dict[str, Tensor],
) -> None:
    """Enter a layer's product, scaled: of a convolution, as a difference."""
    if not {"A", "B"} <= tensors.keys():
        raise invalid(address, f"lacks A or B of {layer}")
    b, a = tensors["B"], tensors["A"]
    if a.ndim < 2 or b.ndim != a.ndim or b.shape[1] != a.shape[0] or 0 in b.shape + a.shape:
        shapes = f"B {list(b.shape)} and A {list(a.shape)} of {layer}"
        raise invalid(address, f"{shapes} do not fit")
    rank, scale = a.shape[0], 1.0
    if "alpha" in tensors:
        alpha = tensors["alpha"]
        if alpha.numel() != 1:
            raise invalid(address, f"alpha of {layer} is {dimensions(alpha.shape)}, not a number")
        scale = float(alpha) / rank
    elif config is not None:
        scale = config.scale(address, layer, rank)
    if a.ndim == 2:
        factors[layer] = (b * scale, a)
    elif b.shape[2:].numel() == 1:
        product = (b.flatten(1) @ a.flatten(1)).reshape(b.shape[0], *a.shape[1:])
        _add(differences, f"{layer}.weight", product * scale)
    else:
        raise invalid(address, f"B {list(b.shape)} and A {list(a.shape)} of {layer} do not fit")
    if "B_bias" in tensors:
        _add(differences, f"{layer}.bias", tensors["B_bias"] * scale)


def _add(differences: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    if name in differences:
        tensor = differences[name] + tensor
    differences[name] = tensor


def _number(address: str, layer: str, tensor: Tensor, group: str) -> Tensor:
    """In float32. An alpha may be a whole number."""
    if tensor.dtype not in DTYPES and (group != "alpha" or tensor.is_complex()):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise invalid(address, f"holds {layer} in {kind}: quantised adapters are not read")
    wide = tensor.float()
    if not torch.isfinite(wide).all():
        raise invalid(address, f"holds NaN or infinity at {layer}: its training failed")
    return wide
