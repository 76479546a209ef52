"""Whether each adapter of a service can be served: one that cannot is noted, and all else is served
without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wan_runtime.contract.report import AdapterNote
from wan_runtime.contract.service import AdapterSpec, AdapterUse
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.changes import ZERO, Changes, without_image_branches
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.models.dit.fused import padded_rank
from wan_runtime.models.dit.transformer import Transformer, shapes_of
from wan_runtime.serving.worker.adapter_notes import noted


class Sample(NamedTuple):
    """One adapter of those that blocks are compiled alike for."""

    adapter: AppliedAdapter
    guided: bool
    """Its videos have guidance."""


class Checks:
    """The checks of rank 0."""

    def __init__(
        self,
        files: AdapterFiles,
        cache: AdapterCache,
        transformers: Mapping[Expert, Transformer],
    ) -> None:
        self._files, self._cache = files, cache
        self._shapes = shapes_of(transformers)
        self._compiled = any(each.compiled for each in transformers.values())
        self._samples: dict[tuple[int, bool], Sample] = {}

    @property
    def samples(self) -> tuple[Sample, ...]:
        """One usable adapter for each way in which blocks are compiled; none where they are not."""
        return tuple(self._samples.values())

    def first(self, spec: AdapterSpec) -> AdapterNote:
        """Fetch and check it. Raises StepError for what is not its own fault."""

        def check() -> str:
            use = self._files.apply(spec, AdapterUse(name=spec.name))
            found, note = self._changes(use)
            if self._compiled:
                self._add_sample(use, found, guided=spec.distilled is None)
            return note

        return noted(spec.name, check)

    def again(self, use: AppliedAdapter) -> AdapterNote:
        """Check files that were fetched anew. Raises as `first`."""
        for file in use.files.values():
            self._cache.forget(file)
        return noted(use.name, lambda: self._changes(use)[1])

    def _add_sample(
        self, use: AppliedAdapter, found: Mapping[Expert, Changes], *, guided: bool
    ) -> None:
        pairs = (pair for each in found.values() for pair in each.factors.values())
        if widest := max((a.shape[0] for _, a in pairs), default=0):
            kind = padded_rank(widest), guided
            self._samples.setdefault(kind, Sample(use, guided))

    def _changes(self, use: AppliedAdapter) -> tuple[Mapping[Expert, Changes], str]:
        """What it does to each transformer, and what is to be said of it, though it can be used."""
        found, left_out = self._cache.changes(use.files, self._shapes)
        words = [without_image_branches(left_out)] if left_out else []
        if all(each.is_zero for each in found.values()):
            words.append(ZERO)
        return found, "; ".join(words)
