"""Whether each adapter of a service can be served: one that cannot is noted, and all else is served
without it."""

from __future__ import annotations

from collections.abc import Mapping

from wan_runtime.contract.report import AdapterNote
from wan_runtime.contract.service import AdapterSpec, AdapterUse
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.changes import without_image_branches
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.models.dit.transformer import Transformer, shapes_of
from wan_runtime.serving.worker.adapter_notes import noted


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

    def first(self, spec: AdapterSpec) -> AdapterNote:
        """Fetch and check it. Raises StepError for what is not its own fault."""
        use = AdapterUse(name=spec.name)
        return noted(spec.name, lambda: self._check(self._files.apply(spec, use)))

    def again(self, use: AppliedAdapter) -> AdapterNote:
        """Check files that were fetched anew. Raises as `first`."""
        for file in use.files.values():
            self._cache.forget(file)
        return noted(use.name, lambda: self._check(use))

    def _check(self, use: AppliedAdapter) -> str:
        """What is left out of it."""
        _, left_out = self._cache.changes(use.files, self._shapes)
        return without_image_branches(left_out) if left_out else ""
