"""What the cluster shows of one custom resource, read out of the raw objects of the API server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from wan_operator.reconcile.room import Room
from wan_operator.resources.jobs import CONTAINER
from wan_operator.resources.labels import ATTEMPT, RECONCILE, RETRIED, STEP

Raw = dict[str, Any]


class Key(NamedTuple):
    """One custom resource."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server's answer to a child: a quota, an admission rule, a stranger of its name."""

    reason: str
    """One of the reasons of the kind."""
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningEvent:
    """The newest Event of type Warning about an object."""

    kind: str
    """Kind of the object."""
    name: str
    """Name of the object."""
    reason: str
    """As its reporter writes it: `FailedCreate`, `FailedMount`, `FailedScheduling`."""
    message: str
    time: datetime
    """When it was last repeated."""

    @classmethod
    def read(cls, event: Raw) -> Self:
        """The Warning in an Event of `events.k8s.io/v1`, whoever posted it in which API."""
        about = event.get("regarding", {})
        last = (
            event.get("series", {}).get("lastObservedTime"),
            event.get("deprecatedLastTimestamp"),
            event.get("eventTime"),
            event["metadata"]["creationTimestamp"],
        )
        return cls(
            kind=about.get("kind", ""),
            name=about.get("name", ""),
            reason=event.get("reason", ""),
            message=event.get("note", "").strip(),
            time=max(parse_time(each) for each in last if each),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """Children that name this resource as their owner, and what else its decision reads. Which
    kinds, pages and other resources these are says the registry in kinds.py."""

    children: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    """Children by their kind."""
    pages: Mapping[str, Any] = field(default_factory=dict)
    """What pods say of themselves: the answers of those that answered, by the name
    of each in the decision before. Empty in a sweep."""
    followed: Mapping[Key, Raw] = field(default_factory=dict)
    """Other custom resources, of those that there are."""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    """Refusals by unit, of the children that were to be created just now."""
    room: Room | None = None
    """Room on nodes. None: not read, because no decision needed it."""
    workloads: Mapping[str, Raw] | None = None
    """Kueue's Workloads of suspended Jobs, by the Job's uid. None: not read, because no decision
    needed them."""
    warnings: Mapping[str, WarningEvent] | None = None
    """The newest Warning about each object of the namespace, by the object's uid. None: not read,
    because no decision needed it."""

    @property
    def jobs(self) -> Sequence[Raw]:
        return self.children.get("Job", ())

    @property
    def pods(self) -> Sequence[Raw]:
        """Pods of those Jobs. Listed after the Jobs: the end of a pod is in the API before the end
        of its Job."""
        return self.children.get("Pod", ())

    @property
    def config_maps(self) -> Sequence[Raw]:
        return self.children.get("ConfigMap", ())

    def warning_about(self, item: Raw) -> WarningEvent | None:
        """The newest Warning about a child; None without one, and where none was read."""
        return (self.warnings or {}).get(item["metadata"].get("uid", ""))


def is_ours(cr: Raw) -> bool:
    """Whether the operator acts on a resource. Not while it is being deleted: the garbage collector
    follows the owner references, pods get their grace."""
    return not is_disabled(cr) and not is_deleting(cr)


def is_disabled(cr: Raw) -> bool:
    """Whether an annotation makes the operator leave a resource alone."""
    disabled: bool = cr["metadata"].get("annotations", {}).get(RECONCILE) == "disabled"
    return disabled


def owned_by(objects: Iterable[Raw], uid: str) -> list[Raw]:
    """Those whose controller is `uid`: a label alone proves nothing, and a run that was deleted and
    created again shares its name with the children that are still being removed."""
    return [item for item in objects if controller_uid(item) == uid]


def controller_uid(item: Raw) -> str:
    owners = item["metadata"].get("ownerReferences", [])
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def label(item: Raw, name: str) -> str:
    value: str = item["metadata"].get("labels", {}).get(name, "")
    return value


def step_of(item: Raw) -> str:
    return label(item, STEP)


def attempt_of(item: Raw) -> int:
    text = label(item, ATTEMPT)
    return int(text) if text.isdecimal() else 0


def is_deleting(item: Raw) -> bool:
    return "deletionTimestamp" in item["metadata"]


def finished(job: Raw) -> bool:
    """Whether the Job has ended, or the pods that end it have been counted: its controller lets go
    of the pods first and sets the condition in a later pass."""
    status = job.get("status", {})
    uncounted = status.get("uncountedTerminatedPods", {})
    failed = status.get("failed", 0) + len(uncounted.get("failed", ()))
    succeeded = status.get("succeeded", 0) + len(uncounted.get("succeeded", ()))
    ended = (condition(job, type_) or {} for type_ in ("Complete", "Failed"))
    return (
        failed > 0
        or succeeded >= completions(job)
        or any(each.get("status") == "True" for each in ended)
    )


def completions(job: Raw) -> int:
    """Number of pods that have to succeed: its ranks."""
    count: int = job.get("spec", {}).get("completions") or 1
    return count


def is_suspended(job: Raw) -> bool:
    """Whether its queue suspends the Job: held, or released and not yet seen by the Job's
    controller."""
    held = condition(job, "Suspended") or {}
    return bool(job.get("spec", {}).get("suspend")) or held.get("status") == "True"


def condition(item: Raw, type_: str) -> Raw | None:
    conditions: list[Raw] = item.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == type_), None)


def container_state(pod: Raw, container: str = CONTAINER) -> tuple[str, Raw]:
    """(`waiting` | `running` | `terminated` | "", its fields) of a step's container, or another."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    for status in statuses:
        if status["name"] == container:
            for kind, fields in status.get("state", {}).items():
                return kind, fields
    return "", {}


def retried(item: Raw) -> datetime | None:
    """Time at which the operator last made the controller of an object try again; None if it never
    did, or somebody has edited that."""
    text = item["metadata"].get("annotations", {}).get(RETRIED, "")
    try:
        return parse_time(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def created(item: Raw) -> datetime:
    return parse_time(item["metadata"]["creationTimestamp"])


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
