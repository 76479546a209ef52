"""The table of mistakes in mistakes.yaml: what each row applies, and what has to be read of it."""

from __future__ import annotations

import functools
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Raw = dict[str, Any]
KINDS = {"WanFineTune": "wanfinetune", "WanInferenceService": "waninferenceservice"}
CLUSTER_WIDE = (
    "PersistentVolume", "PriorityClass", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)  # fmt: skip
CAUSE_SECONDS = 30.0
"""Longest time until the cause stands in the table."""
HEAL_SECONDS = 60.0
"""Longest time from the mend until nothing is in the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A row of the table. The last fine-tune or service in `apply` is the one that is read."""

    name: str
    """Name of the resources that the row applies, unless a fragment has its own."""
    of: str
    """Kind of object that is wrong."""
    where: str
    """What it takes to see it: `apply` and `chart` are refused, `scheduler` and `settings` need no
    kubelet, `kubelet` needs one and a store."""
    apply: Sequence[Raw]
    """Fragments of manifests, over the base of their kind; for `chart` the Helm values."""
    says: Sequence[str]
    """Words of the refusal, or of the line in `kubectl get wan -o wide`."""
    mend: Sequence[Raw] = ()
    """Fragments that are applied over it. Empty for refusals: without the fragment."""
    heals: Sequence[str] = ()
    """Words of the line once it has healed."""
    nodes: Sequence[Raw] = ()
    mend_nodes: Sequence[Raw] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables of the operator that are wrong; the mend is to take them away."""
    alone: bool = False
    """Whether it needs a namespace of its own."""

    @property
    def read(self) -> tuple[str, str]:
        """(kind, name) of the resource that is read."""
        fragment = [each for each in self.apply if each.get("kind") in KINDS][-1]
        return fragment["kind"], fragment.get("name", self.name)


def mistakes(*where: str) -> list[Mistake]:
    """The rows of these places."""
    rows = (Mistake(**row) for row in _table()["rows"])
    return [row for row in rows if row.where in where]


def manifests(row: Mistake, fragments: Iterable[Raw], namespace: str, **values: str) -> list[Raw]:
    """Whole manifests; `${…}` in them stands for the value of that name."""
    base = _table()["base"]
    made = []
    for fragment in fragments:
        kind = fragment["kind"]
        own = {key: value for key, value in fragment.items() if key not in ("name", "metadata")}
        metadata = {"name": fragment.get("name", row.name), **fragment.get("metadata", {})}
        if kind not in CLUSTER_WIDE:
            metadata["namespace"] = namespace
        whole = merged({"apiVersion": "v1", **base.get(kind, {})}, own | {"metadata": metadata})
        made.append(filled(whole, values | {"namespace": namespace}))
    return made


def merged(under: Any, over: Any) -> Any:
    """`over` laid over `under`; None takes a key away."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    whole = under | {key: merged(under.get(key), value) for key, value in over.items()}
    return {key: value for key, value in whole.items() if value is not None}


def filled(content: Any, values: Mapping[str, str]) -> Any:
    if isinstance(content, dict):
        return {key: filled(value, values) for key, value in content.items()}
    if isinstance(content, list):
        return [filled(value, values) for value in content]
    return string.Template(content).substitute(values) if isinstance(content, str) else content


Table = Mapping[tuple[str, str, str], str]


def table(text: str) -> Table:
    """(namespace, kind, name) -> the line of `kubectl get wan -A -o wide --no-headers`."""
    lines = {}
    for line in filter(None, text.splitlines()):
        namespace, resource = line.split()[:2]
        kind, _, name = resource.partition("/")
        lines[namespace, kind.partition(".")[0], name] = line
    return lines


def await_words(
    get: Callable[[], Table],
    places: Mapping[str, str],
    rows: Sequence[Mistake],
    words: Callable[[Mistake], Sequence[str]],
    wait: Callable[[Callable[[], bool]], None],
) -> dict[str, str]:
    """Waits until the line of each row has its words. `places`: row -> namespace. Returns the last
    line of each row that has them not; empty if all have."""
    missing: dict[str, str] = {}

    def all_have() -> bool:
        lines = get()
        missing.clear()
        for row in rows:
            kind, name = row.read
            line = lines.get((places[row.name], KINDS[kind], name), "")
            if not all(word in line for word in words(row)):
                missing[row.name] = line
        return not missing

    wait(all_have)
    return missing


@functools.cache
def _table() -> Raw:
    found: Raw = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return found
