"""LoRA adapters of a request, on weights that stay as they are.

An adapter is a branch beside each layer, y = W x + B A x: taking it away leaves the base model to
the bit, whatever came before. Adding B A to the weights and subtracting it again would not.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.errors import InputError
from wan_runtime.job import Dialect, Expert, Reason
from wan_runtime.serving.worker.messages import AppliedAdapter
from wan_runtime.training.dialects import Factors, read_adapter

# Shapes: O out and I in features of a layer, R rank, summed over the adapters at work. A is [R, I],
# B is [O, R].


@dataclass(frozen=True, slots=True)
class Adapter:
    """One file in host memory."""

    dialect: Dialect
    factors: Factors

    @property
    def bytes(self) -> int:
        return sum(b.nbytes + a.nbytes for b, a in self.factors.values())


class AdapterCache:
    """The adapters used last, as many as there is room for."""

    def __init__(self, limit: int, dtype: torch.dtype) -> None:
        """`limit`: bytes of host memory."""
        self._limit, self._dtype = limit, dtype
        self._held: OrderedDict[Path, Adapter] = OrderedDict()

    @property
    def bytes(self) -> int:
        return sum(adapter.bytes for adapter in self._held.values())

    def __contains__(self, path: Path) -> bool:
        return path in self._held

    def get(self, path: Path) -> Adapter:
        """Raises InputError(MODEL_INVALID), if the file is no LoRA of a Wan model."""
        adapter = self._held.pop(path, None)
        if adapter is None:
            dialect, factors = read_adapter(path)
            narrow = {
                layer: (b.to(self._dtype), a.to(self._dtype)) for layer, (b, a) in factors.items()
            }
            adapter = Adapter(dialect, narrow)
        self._held[path] = adapter  # the last is the one used last
        while self.bytes > self._limit and len(self._held) > 1:
            self._held.popitem(last=False)
        return adapter

    def fitting(self, name: str, path: Path, dit: nn.Module) -> Adapter:
        """As `get`; also raises InputError(MODEL_INVALID) unless the transformer has each of the
        adapter's layers, in its shape."""
        try:
            adapter = self.get(path)
        except InputError as error:
            raise InputError(error.reason, f"adapter {name}: {error.message}") from error
        check_fits(name, adapter, dit)
        return adapter


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
    with ExitStack() as stack:
        for expert, dit in dits.items():
            branches: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for use in wanted:
                path = use.files.get(expert)
                if path is None:
                    continue
                adapter = cache.fitting(use.name, Path(path), dit)
                for layer, (b, a) in adapter.factors.items():
                    branches[layer].append((b * use.strength, a))
            layers = dict(dit.named_modules())
            for layer, pairs in branches.items():
                b = torch.cat([b for b, _ in pairs], dim=1).to(device)
                a = torch.cat([a for _, a in pairs]).to(device)
                stack.enter_context(_hooked(layers[layer], _branch(b, a)))
        yield


def check_fits(name: str, adapter: Adapter, dit: nn.Module) -> None:
    """Raises InputError(MODEL_INVALID) unless the transformer has each of the adapter's layers, in
    its shape."""
    layers = {key: layer for key, layer in dit.named_modules() if isinstance(layer, nn.Linear)}
    odd = [
        layer
        for layer, (b, a) in adapter.factors.items()
        if layer not in layers or layers[layer].weight.shape != (b.shape[0], a.shape[1])
    ]
    if odd:
        matching = len(adapter.factors) - len(odd)
        raise InputError(
            Reason.MODEL_INVALID,
            f"adapter {name} has the keys of {adapter.dialect}, but {matching} of its "
            f"{len(adapter.factors)} layers fit this model; {odd[0]} does not",
        )


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
