"""How strong a file's factors are where its tensors do not say: alpha / rank from its header.

| header | written by |
| --- | --- |
| `preset`, `rank`, `alpha` | our train step; our exports add `alphaFolded` and mean 1 |
| `lora_adapter_metadata` | diffusers, SimpleTuner: the fields of peft's LoraConfig |
| `ss_network_alpha`, `ss_network_dim` | kohya's trainers, musubi-tuner |

The last counts below kohya's own names only: musubi-tuner's `convert_lora.py` multiplies alpha /
rank into the factors that it writes under other names, and keeps the header as it was.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from wan_runtime.contract.steps import Expert
from wan_runtime.faults import value
from wan_runtime.models.adapters.changes import invalid
from wan_runtime.models.adapters.layer_names import diffusers_name

DIFFUSERS_CONFIG = "lora_adapter_metadata"
"""Key of the safetensors header below which diffusers keeps peft's LoraConfig."""
KOHYA = ("ss_network_alpha", "ss_network_dim")
MODELS = {
    Expert.ONLY: "transformer",
    Expert.HIGH_NOISE: "transformer",
    Expert.LOW_NOISE: "transformer_2",
}
"""Model below whose name diffusers has the fields of each."""


@dataclass(frozen=True, slots=True)
class Config:
    """Alpha and rank of one transformer's adapter."""

    source: str
    """Key of the header, for messages."""
    rank: int
    alpha: float
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]
    """Ranks and alphas of layers that differ, by patterns of their names."""
    rank_stabilised: bool = False
    """alpha / sqrt(rank) (Kalajdzievski 2023, equation 4)."""

    def scale(self, address: str, layer: str, rank: int) -> float:
        """Scale of an official layer whose factors have this rank.

        Raises:
            InputError: MODEL_INVALID, if the header has another rank for it.
        """
        stated = int(_of(self.ranks, layer, self.rank))
        if stated != rank:
            raise invalid(
                address,
                f"has rank {rank} at {layer}, and {self.source} in its header says {stated}: "
                "its strength is not known. Save it again with the tool that made it",
            )
        alpha = _of(self.alphas, layer, self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def configs(
    address: str, header: Mapping[str, str], experts: frozenset[Expert], *, kohya: bool
) -> dict[Expert, Config | None]:
    """Alpha and rank for each of these transformers; None: its factors are as strong as they are.
    `kohya`: the file's names are.

    Raises:
        InputError: MODEL_INVALID, if the header cannot be read, or means an adapter of another
            kind.
    """
    if not experts:
        return {}
    if DIFFUSERS_CONFIG in header:
        return _of_diffusers(address, header[DIFFUSERS_CONFIG], experts)
    config = None
    if {"preset", "rank", "alpha"} <= header.keys():
        if header.get("alphaFolded") != "true":
            config = _plain(address, header, "alpha", "rank")
    elif kohya and KOHYA[0] in header:
        config = _plain(address, header, *KOHYA)
    return dict.fromkeys(experts, config)


def _plain(address: str, header: Mapping[str, str], alpha: str, rank: str) -> Config:
    """From two numbers as text."""
    try:
        return Config(alpha, _whole(header[rank]), _finite(float(header[alpha])), {}, {})
    except (KeyError, ValueError):
        raise invalid(
            address,
            f"has {alpha} {value(header.get(alpha))} and {rank} {value(header.get(rank))} in its "
            "header, which are no numbers, and no alpha beside its factors: its strength is not "
            "known",
        ) from None


def _of_diffusers(
    address: str, text: str, experts: frozenset[Expert]
) -> dict[Expert, Config | None]:
    """Fields are below the name of their model, as in `transformer.r`."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise _unreadable(address, f"is no JSON object: {value(text)}")
    models: dict[str, dict[str, Any]] = {}
    for name, content in fields.items():
        model, _, field = name.rpartition(".")
        models.setdefault(model, {})[field] = content
    found: dict[Expert, Config | None] = {}
    for expert in experts:
        wanted = MODELS[expert]
        section = next(iter(models.values())) if len(models) == 1 else models.get(wanted)
        if section is None:
            raise _unreadable(address, f"has no {wanted}.r")
        found[expert] = _config(address, section)
    return found


def _config(address: str, fields: Mapping[str, Any]) -> Config:
    kind = fields.get("peft_type") or "LORA"
    if kind != "LORA" or fields.get("use_dora"):
        what = "DoRA" if kind == "LORA" else value(kind)
        raise invalid(
            address, f"is an adapter of the kind {what} by its header: only plain LoRA is read"
        )
    rank, alpha = fields.get("r"), fields.get("lora_alpha")
    if not _is_number(rank) or rank < 1 or rank != int(rank):
        raise _unreadable(
            address, f"has no rank: r must be a whole number from 1, not {value(rank)}"
        )
    if not _is_number(alpha):
        raise _unreadable(address, f"has no alpha: lora_alpha must be a number, not {value(alpha)}")
    return Config(
        DIFFUSERS_CONFIG,
        int(rank),
        alpha,
        _patterns(address, fields, "rank_pattern"),
        _patterns(address, fields, "alpha_pattern"),
        bool(fields.get("use_rslora")),
    )


def _patterns(address: str, fields: Mapping[str, Any], name: str) -> dict[str, float]:
    found = fields.get(name) or {}
    if not isinstance(found, dict) or not all(map(_is_number, found.values())):
        raise _unreadable(
            address,
            f"has no numbers by layer: {name} must be an object of them, not {value(found)}",
        )
    try:
        for pattern in found:
            re.compile(_ending(pattern))
    except re.error:
        raise _unreadable(address, f"names no layers: {name} has {value(pattern)}") from None
    return found


def _of(patterns: Mapping[str, float], layer: str, default: float) -> float:
    """Value of the first pattern that ends the layer's name, in diffusers or officially."""
    for name in filter(None, (diffusers_name(layer), layer)):
        for pattern, found in patterns.items():
            if re.match(_ending(pattern), name):
                return found
    return default


def _ending(pattern: str) -> str:
    """Whole parts at the end of a layer's name, as peft reads patterns."""
    return rf"(.*\.)?({pattern})$"


def _is_number(given: object) -> TypeGuard[int | float]:
    is_real = isinstance(given, int | float) and not isinstance(given, bool)
    return is_real and math.isfinite(float(str(given)))


def _finite(number: float) -> float:
    """Raises ValueError otherwise."""
    if not math.isfinite(number):
        raise ValueError(number)
    return number


def _whole(text: str) -> int:
    """A whole number, at times written as `16.0`. Raises ValueError for all else."""
    number = _finite(float(text))
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _unreadable(address: str, what: str) -> Exception:
    return invalid(address, f"cannot be read: {DIFFUSERS_CONFIG} in its header {what}")
