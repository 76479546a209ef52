"""A video's adapters at work on the transformers of its model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.applied import AppliedAdapter, naming
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.dit.transformer import Transformer, shapes_of


@contextmanager
def applied(
    transformers: Mapping[Expert, Transformer],
    adapters: Sequence[AppliedAdapter],
    cache: AdapterCache,
) -> Iterator[None]:
    """Have them at work for as long as it lasts.

    Raises:
        InputError: MODEL_INVALID, if a file is no adapter, or not for this model.
    """
    shapes = shapes_of(transformers)
    uses: dict[Expert, list[tuple[Changes, float]]] = defaultdict(list)
    for each in adapters:
        with naming(each.name):
            found, _ = cache.changes(each.files, shapes)
        for expert, changes in found.items():
            uses[expert].append((changes, each.strength))
    with ExitStack() as stack:
        for expert, own in uses.items():
            stack.enter_context(transformers[expert].adapted(own))
        yield
