"""A transformer whose parameters are divided over ranks, and gathered a part at a time.

DeepSpeed's ZeRO 3 (Rajbhandari et al. 2020, section 5.3) gathers the parameters that a module has
itself before it runs, forward or backward, and lets go of them after. Our passes run whole blocks
on weights that they round first, so a part must be gathered before that: each part is a module that
has all parameters of the block as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
PLACE = "gathered"
"""Name under which a module of the transformer holds the part that runs it, beside its own
modules."""


class Part(nn.Module):
    """One block, or one layer outside the blocks."""

    def __init__(self, module: nn.Module, run: Callable[..., Any]) -> None:
        super().__init__()
        # Not as a submodule: its parameters would then be gathered layer by layer.
        self.__dict__["run"] = run
        for name, parameter in module.named_parameters():
            self.register_parameter(name.replace(".", "/"), parameter)

    def forward(self, *inputs: Tensor, dtype: torch.dtype) -> Any:
        return self.__dict__["run"](dtype, *inputs)


class Parts(nn.Module):
    """All parts. Calling it with a function and arguments calls that: what it computes with the
    transformer counts as one pass."""

    def __init__(self, module: nn.Module, run: Callable[..., Any]) -> None:
        """
        Args:
            module: diffsynth's transformer.
            run: takes a module, the dtype of the computation and the module's inputs.
        """
        super().__init__()
        self.parts = nn.ModuleList()
        for each in _parts(module):
            part = Part(each, _bound(run, each))
            each.__dict__[PLACE] = part
            self.parts.append(part)

    def forward(self, function: Callable[..., T], *inputs: Any, **named: Any) -> T:
        return function(*inputs, **named)


class Whole(nn.Module):
    """The transformer as it is. Calling it with a function and arguments calls that."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[..., T], *inputs: Any, **named: Any) -> T:
        return function(*inputs, **named)


def _bound(run: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
    return lambda dtype, *inputs: run(module, dtype, *inputs)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        if name == "blocks":
            yield from child.children()
        else:
            yield child
