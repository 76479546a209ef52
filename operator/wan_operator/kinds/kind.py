"""The facts and functions of a kind of custom resources, for the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from wan_operator.conditions.merge import Vocabulary
from wan_operator.crdgen.crd import Definition
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Key, Observed, Raw
from wan_operator.resources.labels import Manifest
from wan_operator.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page that pods serve about themselves, as far as a decision reads it."""

    path: str
    model: type[BaseModel]
    limit_bytes: int
    """Longest answer that is read: pods run the users' data, so their words are bounded."""
    addresses: Callable[[Raw, Observed, Settings, datetime], Mapping[str, str]]
    """Any name -> IP address of the pods to ask now: only of pods whose owner reference is ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Follows:
    """Other resources that a decision reads: an event of theirs asks for one, too."""

    kinds: frozenset[str]
    """A sweep lists them after the kind that follows them."""
    keys: Callable[[Raw], Iterable[Key]]
    """Those that a raw resource names, of these kinds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of custom resource: its definition, and its pure functions."""

    definition: Definition
    label: str
    """Label by which its children name it."""
    children: tuple[str, ...]
    """Kinds that are listed for each decision, in this order: Jobs before Pods."""
    watched: tuple[str, ...]
    """Those of them whose events ask for a decision. Edits of the others wait for the next one."""
    vocabulary: Vocabulary
    """What its conditions and events may say."""
    reconcile: Callable[[Raw, Observed, Settings, datetime], Decision]
    needs_reconcile: Callable[[Raw], bool]
    """Whether there can be anything to decide."""
    stalled: Callable[[Raw, str, str, datetime], Decision]
    """(resource, reason, message, now): writes into the status what the API server refuses."""
    unit: Callable[[Manifest], str]
    """What a child is a part of: once one part is refused, no other of the unit is made."""
    left: Callable[[Raw, Settings, datetime], tuple[Manifest, ...]] = lambda *_: ()
    """Jobs that will remove what a resource that was just deleted has left in the store."""
    page: Page | None = None
    follows: Follows | None = None

    @property
    def name(self) -> str:
        return self.definition.name

    def followed_by(self, cr: Raw) -> frozenset[Key]:
        return frozenset(self.follows.keys(cr) if self.follows else ())
