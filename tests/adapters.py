"""Adapters under the names of many tools, from one set of random factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.changes import Changes, Factors
from wan_runtime.models.adapters.dialects import read_adapter

THEIRS = {
    **{f"self_attn.{name}": f"attn1.to_{name}" for name in "qkv"},
    **{f"cross_attn.{name}": f"attn2.to_{name}" for name in "qkv"},
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
"""Layers of a block in the official checkpoint -> in diffusers, by hand."""


def block_layers(dit: nn.Module, *, image: bool = False) -> list[str]:
    """Linear layers of a transformer's blocks, with or without its image branches."""
    return [
        name
        for name, layer in dit.named_modules()
        if isinstance(layer, nn.Linear)
        and name.startswith("blocks.")
        and (image or not name.endswith("_img"))
    ]


def random_factors(
    layers: Mapping[str, tuple[int, int]], rank: int | Mapping[str, int] = 2, seed: int = 0
) -> Factors:
    """(B, A) of layers whose weights have these shapes [O, I]; `rank` of all or of each."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for layer, (out, into) in layers.items():
        own = rank if isinstance(rank, int) else rank[layer]
        made[layer] = (
            torch.randn(out, own, generator=generator) / 8,
            torch.randn(own, into, generator=generator) / 8,
        )
    return made


def shapes_of(dit: nn.Module, layers: Iterable[str]) -> dict[str, tuple[int, int]]:
    modules = dict(dit.named_modules())
    return {layer: tuple(modules[layer].weight.shape) for layer in layers}


def diffusers_name(layer: str) -> str:
    """Name of a block's layer in diffusers; others stay."""
    blocks, number, rest = [*layer.split(".", 2), "", ""][:3]
    return f"{blocks}.{number}.{THEIRS[rest]}" if rest in THEIRS else layer


def state(
    factors: Factors, stem: str = "{}", a: str = "lora_A.weight", b: str = "lora_B.weight"
) -> dict[str, Tensor]:
    """The tensors under `stem`: `{}` is the official name, `{word}` the same with underscores,
    `{theirs}` diffusers'."""
    tensors = {}
    for layer, (up, down) in factors.items():
        name = stem.format(layer, word=layer.replace(".", "_"), theirs=diffusers_name(layer))
        tensors[f"{name}.{a}"], tensors[f"{name}.{b}"] = down.clone(), up.clone()
    return tensors


def read(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None
) -> Changes:
    """What is read of a file of these tensors, for a model of one transformer."""
    save_file(dict(tensors), path, dict(header or {}))
    return read_adapter(path).of(Expert.ONLY)


def same(changes: Changes, factors: Factors, scale: float | Mapping[str, float] = 1.0) -> bool:
    """Whether they are these factors, times a scale of all or of each."""
    assert changes.factors.keys() == factors.keys()
    return all(
        torch.allclose(
            changes.factors[layer][0] @ changes.factors[layer][1],
            (b @ a) * (scale if isinstance(scale, float) else scale[layer]),
            rtol=1e-5,
            atol=1e-6,
        )
        for layer, (b, a) in factors.items()
    )
