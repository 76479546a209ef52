"""The files of adapters that were used last, as they were read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch

from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.applied import AdapterFile
from wan_runtime.models.adapters.changes import Adapter, Changes
from wan_runtime.models.adapters.dialects import read_adapter


class AdapterCache:
    """Adapters used last, as many as there is room for."""

    def __init__(self, limit: int, dtype: torch.dtype) -> None:
        """`limit`: bytes of host memory."""
        self._limit, self._dtype = limit, dtype
        self._held: OrderedDict[str, Adapter] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Host memory that they take."""
        return sum(adapter.bytes for adapter in self._held.values())

    def __contains__(self, path: Path) -> bool:
        return str(path) in self._held

    def forget(self, file: AdapterFile) -> None:
        """Drop a file that was replaced."""
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
        self, files: Mapping[Expert, AdapterFile], shapes: Mapping[Expert, Mapping[str, torch.Size]]
    ) -> tuple[dict[Expert, Changes], tuple[str, ...]]:
        """What an adapter's files do to each transformer, and what of them the model lacks. A
        file that was given for any transformer may have nothing for some.

        Args:
            shapes: those of each transformer's parameters.

        Raises:
            InputError: MODEL_INVALID, if a file is no adapter, or not for this model.
        """
        found: dict[Expert, Changes] = {}
        left_out = set[str]()
        for expert, file in files.items():
            if file.shared and self.get(file).part(expert) is None:
                continue
            found[expert], lacking = self.get(file).fitted(expert, shapes[expert])
            left_out |= set(lacking)
        if not found:
            for expert, file in files.items():
                self.get(file).of(expert)  # which says what it is for
        return found, tuple(sorted(left_out))
