"""One WanInferenceService at one service."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wan_operator.api.v1alpha1.inference import (
    KIND,
    LABEL,
    WanInferenceServiceSpec,
    WanInferenceServiceStatus,
)
from wan_operator.conditions.merge import confirmed
from wan_operator.reconcile.bounds import fitted
from wan_operator.reconcile.observed import Observed, Raw, condition, is_deleting, label, owned_by
from wan_operator.reconcile.store import named
from wan_operator.resources.labels import QUEUE_NAME, Owner
from wan_operator.resources.service.names import COMPONENT, REVISION, Part, name_of
from wan_operator.resources.service.worker import Revision
from wan_operator.settings import Settings
from wan_runtime.contract.report import Fault, GatewayState, ServiceReport

WORKERS = (Part.WORKER, Part.CANARY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    owner: Owner
    generation: int
    queue_name: str
    """Queue of Kueue for its Jobs; empty without one."""
    spec: WanInferenceServiceSpec
    status: WanInferenceServiceStatus
    observed: Observed
    settings: Settings
    now: datetime
    """In whole seconds, the resolution of Kubernetes times."""

    @property
    def gateways(self) -> dict[str, GatewayState]:
        """What gateways say of themselves, by pod."""
        workers = {pod["metadata"]["name"] for part in WORKERS for pod in self.pods(part)}
        return {name: page for name, page in self._pages.items() if name not in workers}

    @property
    def _pages(self) -> dict[str, GatewayState]:
        pages = self.observed.pages.items()
        return {name: self._named(page) for name, page in pages if isinstance(page, GatewayState)}

    def _named(self, page: GatewayState) -> GatewayState:
        """The page, with the Secret of the store in its faults."""
        faults = [
            each.model_copy(update={"message": self.words(each.message)}) for each in page.faults
        ]
        return page.model_copy(update={"faults": tuple(faults)})

    def words(self, said: str) -> str:
        """Text of a pod, with the name of the store's Secret."""
        effective = self.status.effective
        return said if effective is None else named(said, self.spec.store, effective.store)

    def waits(self, pod: Raw) -> Fault | None:
        """Why a pod that runs does not begin, in its own words; None for one that is ready."""
        page = self._pages.get(pod["metadata"]["name"])
        return page.faults[0] if page and page.faults and not is_ready(pod) else None

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Causes why requests would fail, by a gateway that gets requests; if none does, by any."""
        pods = self.pods(Part.GATEWAY)
        ready = {pod["metadata"]["name"] for pod in pods if is_ready(pod)}
        said = self.gateways
        heard = [said[name] for name in said if name in ready] or list(said.values())
        return next((each.faults for each in heard if each.faults), ())

    @property
    def report(self) -> ServiceReport | None:
        """The freshest that a gateway gave. None: none has answered now."""
        said = [each.service for each in self.gateways.values() if each.service is not None]
        return min(said, key=lambda each: each.age_seconds, default=None)

    def own(self, kind: str) -> list[Raw]:
        """Children of this very resource that stay."""
        found = owned_by(self.observed.children.get(kind, ()), self.owner.uid)
        return [each for each in found if not is_deleting(each)]

    def child(self, kind: str, name: str) -> Raw | None:
        return next((each for each in self.own(kind) if each["metadata"]["name"] == name), None)

    def deployment(self, part: Part) -> Raw | None:
        return self.child("Deployment", name_of(self.owner, part))

    def pods(self, part: Part) -> list[Raw]:
        """Pods of a part, terminating ones too. A ReplicaSet owns them, so they are found by their
        labels."""
        return [pod for pod in self.observed.pods if label(pod, COMPONENT) == part.value]

    def revision(self, name: str) -> Revision | None:
        """From the ConfigMap that keeps it."""
        maps = self.own("ConfigMap")
        kept = next((each for each in maps if name and label(each, REVISION) == name), None)
        return None if kept is None else Revision.read(kept)

    def with_status(self, **changes: Any) -> Service:
        return replace(self, status=self.status.model_copy(update=changes))

    def dump(self) -> dict[str, Any]:
        """The status as it is written."""
        conditions = confirmed(self.status.conditions, self.generation)
        update = {"observed_generation": self.generation, "conditions": conditions}
        status = self.status.model_copy(update=update)
        raw = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return fitted(raw, WanInferenceServiceStatus)


def read(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Service:
    """Raises pydantic's ValidationError for what this release cannot read."""
    spec = WanInferenceServiceSpec.model_validate(cr["spec"])
    return _with_spec(spec, cr, observed, settings, now)


def partly(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Service | None:
    """A service whose spec this release cannot read, for what its status says of what serves: of
    the spec there is what can be read, each field by itself, and the defaults of the others; no
    `model` and no `gateway` if those cannot. None: the status cannot be read either."""
    found: dict[str, Any] = {}
    for name, field in WanInferenceServiceSpec.model_fields.items():
        with suppress(KeyError, ValidationError):
            value = cr["spec"][field.alias or name]
            found[name] = TypeAdapter[Any](field.rebuild_annotation()).validate_python(value)
    try:
        spec = WanInferenceServiceSpec.model_construct(**found)
        return _with_spec(spec, cr, observed, settings, now)
    except ValidationError:
        return None


def _with_spec(
    spec: WanInferenceServiceSpec, cr: Raw, observed: Observed, settings: Settings, now: datetime
) -> Service:
    metadata = cr["metadata"]
    return Service(
        owner=Owner.of(KIND, LABEL, cr),
        generation=metadata["generation"],
        queue_name=metadata.get("labels", {}).get(QUEUE_NAME, ""),
        spec=spec,
        status=WanInferenceServiceStatus.model_validate(cr.get("status", {})),
        observed=observed,
        settings=settings,
        now=now.replace(microsecond=0),
    )


def is_ready(pod: Raw) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found["status"] == "True"


def count(deployments: Sequence[Raw | None], field: str) -> int:
    """Sum of a field over the Deployments' statuses."""
    found = (each.get("status", {}).get(field, 0) for each in deployments if each is not None)
    return sum(found)
