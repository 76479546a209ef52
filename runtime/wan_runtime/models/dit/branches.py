"""LoRA adapters of a request, on weights that stay as they are.

A product of factors is a branch beside its layer, y = W x + B A x. A difference of a weight, a bias
or a modulation is added to a copy of the parameter while the module that has it runs. Taking both
away leaves the base model to the bit, whatever came before; adding to the weights and subtracting
again would not.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.contract.job import Expert
from wan_runtime.models.adapters.applied import AdapterFile, AppliedAdapter, naming
from wan_runtime.models.adapters.changes import Adapter, Changes
from wan_runtime.models.adapters.dialects import read_adapter

# Shapes: O out and I in features of a layer, R rank, summed over the adapters at work. A is [R, I],
# B is [O, R].


class AdapterCache:
    """The files of adapters used last, as many as there is room for."""

    def __init__(self, limit: int, dtype: torch.dtype) -> None:
        """`limit`: bytes of host memory."""
        self._limit, self._dtype = limit, dtype
        self._held: OrderedDict[str, Adapter] = OrderedDict()

    @property
    def bytes(self) -> int:
        return sum(adapter.bytes for adapter in self._held.values())

    def __contains__(self, path: Path) -> bool:
        return str(path) in self._held

    def forget(self, file: AdapterFile) -> None:
        """It is another one by now."""
        self._held.pop(file.path, None)

    def get(self, file: AdapterFile) -> Adapter:
        """Raises InputError(MODEL_INVALID), if the file is no LoRA of a Wan model."""
        adapter = self._held.pop(file.path, None)
        if adapter is None:
            adapter = read_adapter(Path(file.path), file.address, self._dtype)
        self._held[file.path] = adapter  # the last is the one used last
        while self.bytes > self._limit and len(self._held) > 1:
            self._held.popitem(last=False)
        return adapter

    def changes(
        self, files: Mapping[Expert, AdapterFile], dits: Mapping[Expert, nn.Module]
    ) -> tuple[dict[Expert, Changes], tuple[str, ...]]:
        """What an adapter's files do to each transformer, and what of them the model lacks. A
        file that was given for any transformer may have nothing for some.

        Raises:
            InputError: MODEL_INVALID, if a file is no adapter, or not for this model.
        """
        found: dict[Expert, Changes] = {}
        left_out = set[str]()
        for expert, file in files.items():
            if file.shared and self.get(file).part(expert) is None:
                continue
            shapes = {name: each.shape for name, each in dits[expert].named_parameters()}
            found[expert], lacking = self.get(file).fitted(expert, shapes)
            left_out |= set(lacking)
        if not found:
            for expert, file in files.items():
                self.get(file).of(expert)  # which says what it is for
        return found, tuple(sorted(left_out))


@contextmanager
def applied(
    dits: Mapping[Expert, nn.Module],
    wanted: Sequence[AppliedAdapter],
    cache: AdapterCache,
    device: torch.device,
) -> Iterator[None]:
    """The adapters at work on the transformers, for as long as it lasts.

    Raises:
        InputError: MODEL_INVALID, if a file is no adapter, or not for this model.
    """
    products: dict[nn.Module, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    sums: dict[nn.Module, dict[str, Tensor]] = defaultdict(dict)
    modules = {expert: dict(dit.named_modules()) for expert, dit in dits.items()}
    for use in wanted:
        with naming(use.name):
            found, _ = cache.changes(use.files, dits)
        for expert, changes in found.items():
            for layer, (b, a) in changes.factors.items():
                products[modules[expert][layer]].append((b * use.strength, a))
            for name, difference in changes.differences.items():
                layer, _, parameter = name.rpartition(".")
                own = sums[modules[expert][layer]]
                grown = difference.float() * use.strength
                own[parameter] = own[parameter] + grown if parameter in own else grown
    with ExitStack() as stack:
        for module, pairs in products.items():
            b = torch.cat([b for b, _ in pairs], dim=1).to(device)
            a = torch.cat([a for _, a in pairs]).to(device)
            stack.enter_context(_hooked(module, _branch(b, a)))
        for module, differences in sums.items():
            here = {name: each.to(device) for name, each in differences.items()}
            stack.enter_context(_grown(module, here))
        yield


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
