"""A LoRA to be trained on a frozen transformer: which layers, in which precision, under which
names.

Parameters are float32 whatever the base: with bfloat16 ones, most updates at a rate of 1e-4 round
to nothing.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.training import LoraSpec
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.dialects import ADAPTER
from wan_runtime.process.imports import importing

# Shapes: O out and I in features of a linear layer, R rank. A is [R, I], B is [O, R]; delta = alpha
# / R * B A.


def inject(dit: nn.Module, spec: LoraSpec, seed: int) -> dict[str, nn.Parameter]:
    """Put adapters on the linear layers named by `spec.target_modules`; return the trainable
    parameters by name.

    A target matches by the end of a module's name ("q" is every attention's q, "ffn.0" the MLP's
    first layer). A is uniform as in peft (Kaiming with a = sqrt 5), from `seed`; B is zero, so
    training starts at the base model.

    Raises:
        InputError: LORA_TARGET_UNKNOWN, naming the targets that match nothing and what there is.
    """
    with importing():  # seconds, that nothing but an adapter's training needs
        from peft import LoraConfig, inject_adapter_in_model

    matched = target_layers(dit, spec.target_modules)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=list(matched),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(config, dit, adapter_name=ADAPTER)
    for module in dit.modules():
        if is_adapted(module):
            # Autocast narrows the input anyway; widening it first costs 2 GB and 2.5 % at 14B.
            module.cast_input_dtype_enabled = False
    generator = torch.Generator().manual_seed(seed)
    trainable: dict[str, nn.Parameter] = {}
    for name, parameter in dit.named_parameters():
        is_a, is_b = ".lora_A." in name, ".lora_B." in name
        parameter.requires_grad_(is_a or is_b)
        if is_a or is_b:
            # peft gave them the base layer's dtype: draw anew in float32, on the CPU, alike on
            # every device.
            values = torch.zeros(parameter.shape)
            if is_a:
                nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)
            parameter.data = values.to(parameter.device)
            trainable[name] = parameter
    return trainable


def is_adapted(layer: nn.Module) -> TypeGuard[Any]:
    """Whether the layer is one that `inject` put an adapter on."""
    return hasattr(layer, "lora_A")


def target_layers(dit: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Full names of the linear layers that `targets` match. Raises as `inject` does."""
    linear = [name for name, module in dit.named_modules() if isinstance(module, nn.Linear)]
    chosen, unknown = set[str](), []
    for target in targets:
        hits = {name for name in linear if name == target or name.endswith(f".{target}")}
        chosen |= hits
        if not hits:
            unknown.append(target)
    if unknown:
        there = sorted(
            {re.sub(r"^blocks\.\d+\.", "", name) for name in linear if name.startswith("blocks.")}
        )
        raise InputError(
            Reason.LORA_TARGET_UNKNOWN,
            f"method.lora.targetModules {', '.join(unknown)} match no linear layer; "
            f"each block has {', '.join(there)}",
        )
    return [name for name in linear if name in chosen]


def delta_factors(state: dict[str, Tensor], scale: float) -> dict[str, tuple[Tensor, Tensor]]:
    """(scale * B, A) of each adapted layer, by the layer's name, from parameters named as `inject`
    names them.
    """
    factors = {}
    for name, b in state.items():
        if ".lora_B." in name:
            layer = name.partition(".lora_B.")[0]
            factors[layer] = (
                b.float() * scale,
                state[name.replace(".lora_B.", ".lora_A.")].float(),
            )
    return factors


def layer_of(name: str) -> str:
    """Name of the layer that a trained parameter belongs to."""
    return re.sub(r"\.(lora_[AB]\..*|weight|bias)$", "", name)
