"""The table of mistakes in mistakes.yaml: its rows, and how they are applied and read together."""

from __future__ import annotations

import functools
import string
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

Raw = dict[str, Any]
READ = ("WanFineTune", "WanInferenceService", "WanEvaluation")
CLUSTER_WIDE = (
    "PersistentVolume", "PriorityClass", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)  # fmt: skip
CAUSE_SECONDS, HEAL_SECONDS = 600.0, 600.0
"""Limits until the cause stands in the table, and from the mend until nothing is in the way. How
long that takes is measured (docs/measurements.md): a dozen gateways that start on a busy machine
take many times as long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A row of the table. The last resource of the operator in `apply` is the one that is read."""

    name: str
    """Name of the resources that the row applies, unless a fragment has its own."""
    of: str
    """Kind of object that is wrong."""
    where: str
    """Place that shows it: `apply` and `chart` are refused, `scheduler` and `settings` need no
    kubelet, `kubelet` needs one, a store and a database."""
    apply: Sequence[Raw]
    """Fragments of manifests, over the base of their kind; for `chart` the Helm values."""
    says: Sequence[str]
    """Words of the refusal, or of the line in `kubectl get wan -o wide`."""
    mend: Sequence[Raw] = ()
    """Fragments that are applied over it. Empty for refusals: without the fragment."""
    heals: Sequence[str] = ()
    """Words of the line once it has healed. Empty for refusals."""
    nodes: Sequence[Raw] = ()
    mend_nodes: Sequence[Raw] = ()
    mend_buckets: Sequence[str] = ()
    """Buckets that have to be made."""
    mend_clips: Sequence[str] = ()
    """Folders of the bucket that clips have to be uploaded to."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables of the operator that are wrong; the mend is to take them away."""
    alone: bool = False
    """Whether it needs a namespace of its own."""

    @property
    def read(self) -> tuple[str, str]:
        """(kind, name) of the resource that is read."""
        fragment = [each for each in self.apply if each.get("kind") in READ][-1]
        return fragment["kind"], fragment.get("name", self.name)


def mistakes(*where: str) -> list[Mistake]:
    """The rows of these places."""
    rows = (Mistake(**row) for row in _table()["rows"])
    return [row for row in rows if row.where in where]


def manifests(row: Mistake, fragments: Iterable[Raw], values: Mapping[str, str]) -> list[Raw]:
    """Whole manifests; `${…}` in them stands for the value of that name, `namespace` among them."""
    base = _table()["base"]
    made = []
    for fragment in fragments:
        kind = fragment["kind"]
        own = {key: value for key, value in fragment.items() if key not in ("name", "metadata")}
        metadata = {"name": fragment.get("name", row.name), **fragment.get("metadata", {})}
        if kind not in CLUSTER_WIDE:
            metadata["namespace"] = values["namespace"]
        whole = merged({"apiVersion": "v1", **base.get(kind, {})}, own | {"metadata": metadata})
        made.append(filled(whole, values))
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


Lines = Mapping[tuple[str, str, str], str]


class Kubectl(Protocol):
    def __call__(self, *arguments: str, text: str | None = None) -> str: ...


class Sheet:
    """Rows that are applied and read together. `apart`: namespaces of those that need their own."""

    def __init__(
        self,
        kubectl: Kubectl,
        rows: Sequence[Mistake],
        namespace: str,
        apart: Mapping[str, str],
        values: Mapping[str, str],
    ) -> None:
        self.kubectl, self.rows, self.values = kubectl, rows, values
        self.places = {row.name: apart.get(row.name, namespace) for row in rows}
        self.seconds: dict[str, list[float]] = {row.name: [] for row in rows}
        """Row -> seconds from the begin of each `apply` until its words were read."""
        self.began = self.applied = 0.0

    def of(self, row: Mistake) -> dict[str, str]:
        """The values of a row."""
        return {**self.values, "namespace": self.places[row.name]}

    def apply(self, fragments: Callable[[Mistake], Sequence[Raw]]) -> None:
        self.began = time.monotonic()
        made = [
            manifest
            for row in self.rows
            for manifest in manifests(row, fragments(row), self.of(row))
        ]
        # Quotas and policies first, or what they refuse would be there before them.
        made.sort(key=lambda manifest: manifest["kind"] in READ)
        if made:
            self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(made))
        self.applied = time.monotonic()

    def lines(self) -> Lines:
        """(namespace, kind, name) -> its line in the table."""
        found = {}
        text = self.kubectl("get", "wan", "-A", "-o", "wide", "--no-headers")
        for line in filter(None, text.splitlines()):
            namespace, resource = line.split()[:2]
            kind, _, name = resource.partition("/")
            found[namespace, kind.partition(".")[0], name] = line
        return found

    def missing(
        self,
        words: Callable[[Mistake], Sequence[str]],
        seconds: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """The lines that have not had their words these seconds after all was applied. A row that
        had them once counts: retries and back-off change lines. `meanwhile` is called before each
        reading."""
        waiting = [row for row in self.rows if words(row)]
        while True:
            meanwhile()
            lines, now = self.lines(), time.monotonic()
            for row in [row for row in waiting if self._has(lines, row, words(row))]:
                self.seconds[row.name].append(now - self.began)
                waiting.remove(row)
            if not waiting or now - self.applied > seconds:
                return [f"{row.name}: {words(row)}: {self._line(lines, row)}" for row in waiting]
            time.sleep(1)  # between two readings of the table

    def report(self) -> str:
        """Table of rows with their seconds; a row that lacks words has none of them."""
        return "\n".join(
            f"{row.of:20} {row.name:40}"
            + "".join(f"{each:6.1f}" for each in self.seconds[row.name])
            for row in self.rows
        )

    def _has(self, lines: Lines, row: Mistake, words: Sequence[str]) -> bool:
        line = self._line(lines, row)
        return all(filled(word, self.of(row)) in line for word in words)

    def _line(self, lines: Lines, row: Mistake) -> str:
        """Without the name, which may have some of the words."""
        kind, name = row.read
        return lines.get((self.places[row.name], kind.lower(), name), "").replace(name, "")


@functools.cache
def _table() -> Raw:
    found: Raw = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return found
