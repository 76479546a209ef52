"""The kinds of custom resources that the operator serves. The engine around the decisions (kube,
controller, sweep, handlers) knows none of them by name: it goes by this registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from wan_operator import conditions, service_conditions
from wan_operator.api.v1alpha1 import finetune as finetune_api
from wan_operator.api.v1alpha1 import inference as inference_api
from wan_operator.reconcile import ends, finetune
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Key, Observed, Raw, label, step_of
from wan_operator.reconcile.serving import life
from wan_operator.reconcile.serving.follow import follows
from wan_operator.resources.labels import Manifest
from wan_operator.settings import Settings
from wan_runtime.job import Progress
from wan_runtime.serving.report import STATE_PAGE, ServiceReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What pods say of themselves on the port of their pages, as far as a decision reads it."""

    path: str
    model: type[BaseModel]
    limit_bytes: int
    """A longer answer is none: pods run the users' data, so their words are bounded."""
    addresses: Callable[[Raw, Observed, Settings, datetime], Mapping[str, str]]
    """Any name -> IP address, of the pods to ask now. Only of pods that are proven ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of custom resource, and its pure functions."""

    name: str
    plural: str
    label: str
    """By which its children name it."""
    children: tuple[str, ...]
    """Kinds that are listed for each decision, in this order: Jobs before Pods."""
    watched: tuple[str, ...]
    """Those of them whose events ask for a decision. Edits of the others wait for the next one."""
    reasons: Mapping[str, str]
    """What its conditions and events may give as reason, and what each means."""
    reconcile: Callable[[Raw, Observed, Settings, datetime], Decision]
    needs_look: Callable[[Raw], bool]
    """Whether there can be anything to decide."""
    stalled: Callable[[Raw, str, str, datetime], Decision]
    """(resource, reason, message, now): tells what the API server refuses."""
    unit: Callable[[Manifest], str]
    """What a child is a part of: once one part is refused, no other of the unit is made."""
    page: Page | None = None
    follows: Callable[[Raw], Iterable[Key]] | None = None
    """Other resources that its decision reads: an event of theirs asks for one, too."""

    def followed_by(self, cr: Raw) -> frozenset[Key]:
        return frozenset(self.follows(cr) if self.follows else ())


FINETUNE = Kind(
    name=finetune_api.KIND,
    plural=finetune_api.PLURAL,
    label=finetune_api.LABEL,
    children=("ConfigMap", "Job", "Pod"),
    watched=("Job", "Pod"),
    reasons=conditions.REASONS,
    reconcile=finetune.reconcile,
    needs_look=finetune.needs_look,
    stalled=ends.stalled,
    unit=step_of,
    page=Page(
        path="/progress",
        model=Progress,
        limit_bytes=16 * 1024,
        addresses=finetune.progress_addresses,
    ),
)

SERVICE = Kind(
    name=inference_api.KIND,
    plural=inference_api.PLURAL,
    label=inference_api.LABEL,
    children=(
        "ConfigMap",
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Ingress",
        "HTTPRoute",
        "Deployment",
        "Job",
        "Pod",
    ),
    watched=("Deployment", "Job", "Pod"),
    reasons=service_conditions.VOCABULARY.reasons,
    reconcile=life.reconcile,
    needs_look=lambda cr: True,
    stalled=life.stalled,
    unit=lambda child: f"{child['kind']}/{child['metadata']['name']}",
    page=Page(
        path=STATE_PAGE,
        model=ServiceReport,
        limit_bytes=256 * 1024,
        addresses=life.addresses,
    ),
    follows=follows,
)

KINDS = {kind.name: kind for kind in (FINETUNE, SERVICE)}


def key_of(kind: str, cr: Raw) -> Key:
    return Key(kind, cr["metadata"]["namespace"], cr["metadata"]["name"])


def owner_of(child: Raw) -> Key | None:
    """By its labels, which prove nothing: decisions check the owner reference."""
    named = ((kind.name, label(child, kind.label)) for kind in KINDS.values())
    namespace = child["metadata"]["namespace"]
    return next((Key(kind, namespace, name) for kind, name in named if name), None)
