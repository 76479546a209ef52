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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.steps import Expert
from wan_runtime.faults import value
from wan_runtime.models.adapters import foreign, strength
from wan_runtime.models.adapters.changes import Adapter, Changes, Factors, invalid
from wan_runtime.models.adapters.layer_names import (
    COMFYUI,
    MODULATED,
    WORD,
    Place,
    diffusers_name,
    place_of,
)
from wan_runtime.models.weights import write_safetensors

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

ADAPTER = "default"
"""Name of the one adapter of a model in training, and in the keys of DiffSynth's files."""
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)
"""Types that hold the numbers themselves; others are parts of a quantised tensor."""
KERNELS = 2**26
"""Numbers of a convolution's weight, at most: of Wan's they are 737,280."""
Layers = dict[str, dict[str, str]]
"""Keys by their group's name in _KEY, by layer."""


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


def read_adapter(path: Path, address: str = "", dtype: torch.dtype = torch.float32) -> Adapter:
    """The adapter in a safetensors file of any of the tools, its scale folded into B. Computed in
    float32, a layer at a time.

    `address`: where the file is from, for messages; by default its path. `dtype`: of the result.

    Raises:
        InputError: MODEL_INVALID, if the file is no LoRA of a Wan image-to-video transformer, with
            what it is or the keys found; if its header cannot be read; if A and B of a layer do not
            fit; if a number is not finite.
    """
    address = address or str(path)
    try:
        with safe_open(path, framework="pt") as file, _one_thread():
            return _read(address, file, dtype)
    except SafetensorError as error:
        raise invalid(address, foreign.opening(path)) from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold torch's CPU work to one thread. It gains nothing from more with tensors as small as
    these, and the threads of each of thousands of operations wait for one another: on two busy
    cores a file of 14B took 68 s by two threads, and 3 s by one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_adapter(keys: Iterable[str]) -> bool:
    """Whether a file's keys are an adapter's, of whatever kind."""
    return any(_KEY.fullmatch(key) or foreign.of_kind(key) for key in keys)


def _read(address: str, file: Any, dtype: torch.dtype) -> Adapter:
    """`file`: of `safe_open`."""
    header, names = file.metadata() or {}, list(file.keys())
    if not names:
        raise invalid(address, "holds no tensors")
    placed, unknown = _placed(names)
    if unknown or not placed:
        found = ", ".join(sorted(unknown)[:3])
        raise invalid(
            address,
            foreign.kind_of(names)
            or "is no LoRA of DiffSynth, ComfyUI or Diffusers for a Wan image-to-video model: "
            f"{len(unknown)} of its {len(names)} keys are not understood, such as {found}",
        )
    places = [place for place, _ in placed.values()]
    if {True, False} <= {place.official for place in places}:
        raise invalid(address, "mixes the layer names of the official checkpoint and of diffusers")
    experts = _experts(address, places, header)
    parts: dict[Expert, Layers] = {expert: {} for expert in experts.values()}
    for name, (place, group) in placed.items():
        keys = parts[experts[place.expert]].setdefault(place.layer, {})
        if keys.setdefault(group, name) != name:
            raise invalid(address, f"holds {place.layer} twice; give one file for each expert")
    # The header is not looked at where all layers have an alpha of their own.
    without_alpha = frozenset(
        expert
        for expert, layers in parts.items()
        if any("B" in groups and "alpha" not in groups for groups in layers.values())
    )
    kohya = all(each.wrapper == WORD for each in places)
    configs = strength.configs(address, header, without_alpha, kohya=kohya)
    changes = {}
    for expert in sorted(parts):
        made = Changes(address, {}, {})
        for layer, keys in sorted(parts[expert].items()):
            tensors = {
                group: _number(address, layer, file.get_tensor(name), group)
                for group, name in keys.items()
            }
            _enter(made, layer, tensors, configs.get(expert), dtype)
        changes[expert] = made
    return Adapter(_dialect(places), changes)


def _placed(names: Iterable[str]) -> tuple[dict[str, tuple[Place, str]], list[str]]:
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
            what = (
                f"has expert {value(header['expert'])} in its header, none of {', '.join(Expert)}"
            )
            raise invalid(address, what) from None
    return {only: only}


def _enter(
    changes: Changes,
    layer: str,
    tensors: Mapping[str, Tensor],
    config: strength.Config | None,
    dtype: torch.dtype,
) -> None:
    """A layer's part of the changes."""
    grown = {name: tensors[name] for name in ("weight", "bias", "modulation") if name in tensors}
    if {"A", "B", "B_bias", "alpha"} & tensors.keys():
        scale = _scale(changes.address, layer, tensors, config)
        b, a = tensors["B"], tensors["A"]
        if a.ndim == 2:
            changes.factors[layer] = ((b * scale).to(dtype), a.to(dtype))
        else:
            product = (b.flatten(1) @ a.flatten(1)).reshape(b.shape[0], *a.shape[1:])
            grown["weight"] = grown.get("weight", 0) + product * scale
        if "B_bias" in tensors:
            grown["bias"] = grown.get("bias", 0) + tensors["B_bias"] * scale
    for name, tensor in grown.items():
        changes.differences[f"{layer}.{name}"] = tensor.to(dtype)


def _scale(
    address: str, layer: str, tensors: Mapping[str, Tensor], config: strength.Config | None
) -> float:
    """Scale of a layer's product. Raises InputError(MODEL_INVALID) unless A and B fit."""
    if not {"A", "B"} <= tensors.keys():
        raise invalid(address, f"lacks A or B of {layer}")
    b, a = tensors["B"], tensors["A"]
    fits = a.ndim >= 2 and a.ndim == b.ndim and b.shape[1] == a.shape[0] > 0
    if not fits or b.shape[2:].numel() != 1 or (a.ndim > 2 and b.shape[0] * a[0].numel() > KERNELS):
        shapes = f"B {list(b.shape)} and A {list(a.shape)}"
        raise invalid(address, f"has factors of {layer} that do not fit: {shapes}")
    if "alpha" in tensors:
        alpha = tensors["alpha"]
        if alpha.numel() != 1:
            what = f"has an alpha of {alpha.numel()} numbers at {layer}: it is to be one"
            raise invalid(address, what)
        return float(alpha) / a.shape[0]
    return 1.0 if config is None else config.scale(address, layer, a.shape[0])


def _number(address: str, layer: str, tensor: Tensor, group: str) -> Tensor:
    """The tensor in float32. Raises InputError(MODEL_INVALID) unless its numbers are finite, and
    not quantised; an alpha may be a whole number."""
    if tensor.dtype not in DTYPES and (group != "alpha" or tensor.is_complex()):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise invalid(address, f"holds {layer} in {kind}: quantised adapters are not read")
    wide = tensor.float()
    if not torch.isfinite(wide).all():
        raise invalid(address, f"holds NaN or infinity at {layer}: its training failed")
    return wide
