"""Adapters at work on a transformer whose weights stay as they are.

A product of factors is a branch beside its layer, y = W x + B A x. A difference of a weight, a bias
or a modulation is added to a copy of the parameter while the module that has it runs. Taking both
away leaves the base model to the bit, whatever came before; adding to the weights and subtracting
again would not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.models.adapters.changes import Changes

# Shapes: O out and I in features of a layer, R rank, summed over the adapters at work. A is [R, I],
# B is [O, R].


@dataclass(frozen=True, slots=True)
class Branches:
    """Adapters at work, by the module that they change."""

    products: Mapping[nn.Module, tuple[Tensor, Tensor]]
    """(B, A) of each layer: B holds the strengths."""
    sums: Mapping[nn.Module, Mapping[str, Tensor]]
    """What is added to a module's own parameters, by their names, float32."""


@contextmanager
def applied(
    dit: nn.Module, uses: Sequence[tuple[Changes, float]], device: torch.device
) -> Iterator[Branches]:
    """Have adapters, each with its strength, at work for as long as it lasts."""
    products: dict[nn.Module, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    sums: dict[nn.Module, dict[str, Tensor]] = defaultdict(dict)
    modules = dict(dit.named_modules())
    for changes, strength in uses:
        for layer, (b, a) in changes.factors.items():
            # On a GPU, where it does not wait for busy processors.
            products[modules[layer]].append((b.to(device) * strength, a.to(device)))
        for name, difference in changes.differences.items():
            layer, _, parameter = name.rpartition(".")
            own = sums[modules[layer]]
            grown = difference.to(device).float() * strength
            own[parameter] = own[parameter] + grown if parameter in own else grown
    branches = Branches(
        {module: _joined(pairs) for module, pairs in products.items()},
        sums,
    )
    with ExitStack() as stack:
        for module, (b, a) in branches.products.items():
            stack.enter_context(_hooked(module, _branch(b, a)))
        for module, here in branches.sums.items():
            stack.enter_context(_grown(module, here))
        yield branches


def _joined(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([b for b, _ in pairs], dim=1), torch.cat([a for _, a in pairs])


def _branch(b: Tensor, a: Tensor) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    def add(layer: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        (x,) = inputs
        return out + (x @ a.to(x.dtype).T) @ b.to(x.dtype).T

    return add


@contextmanager
def _hooked(layer: nn.Module, hook: Any) -> Iterator[None]:
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _grown(module: nn.Module, differences: Mapping[str, Tensor]) -> Iterator[None]:
    """The module runs on parameters that are larger by the differences. They are added each time it
    runs: where transformers take turns on a GPU, what lies there is another copy each time.

    Added in float32 and rounded once: at strength 1 the differences that a distilled model was
    taken apart into give its weights again.
    """
    forward = module.forward

    def on_copies(*inputs: Any, **named: Any) -> Any:
        parameters = {name: getattr(module, name) for name in differences}
        homes = {name: each.data for name, each in parameters.items()}
        try:
            for name, each in parameters.items():
                each.data = (homes[name].float() + differences[name]).to(each.dtype)
            return forward(*inputs, **named)
        finally:
            for name, each in parameters.items():
                each.data = homes[name]

    module.__dict__["forward"] = on_copies
    try:
        yield
    finally:
        del module.__dict__["forward"]
