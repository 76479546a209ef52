"""The adapters of a service, as its spec names them and as its ready workers find them."""

from __future__ import annotations

from dataclasses import dataclass

from wan_operator.api.v1alpha1.common import Artifact
from wan_operator.api.v1alpha1.inference import (
    Adapter,
    AdapterStatus,
    ReportedFiles,
    WanInferenceServiceStatus,
)
from wan_operator.api.v1alpha1.model import AdapterFiles
from wan_operator.conditions.service import ADAPTER_REASONS, VOCABULARY
from wan_operator.reconcile.service.state import Service
from wan_operator.resources.service.worker import Revision
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.report import AdapterNote, AdapterReport
from wan_runtime.contract.service import AdapterSpec, Distilled
from wan_runtime.contract.steps import Expert


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ready workers report on one adapter, if their revision has it from the same place."""

    usable: int
    """Number of workers that can use it."""
    faulty: int
    note: AdapterNote | None
    """Note of a worker that cannot use it, or has more to report."""

    @property
    def reason(self) -> str:
        """Why some cannot: from service_conditions; empty if all can."""
        if not self.faulty or self.note is None:
            return ""
        name = ADAPTER_REASONS.get(str(self.note.reason), str(self.note.reason))
        return name if name in VOCABULARY.reasons else "AdapterInvalid"

    @property
    def message(self) -> str:
        text = self.note.message if self.note else ""
        if self.faulty and self.usable:
            return f"{text} (on {self.faulty} of {self.faulty + self.usable} workers)"
        return text


def verdict(service: Service, adapter: AdapterSpec) -> Verdict:
    """What workers report on an adapter as the spec names it now."""
    found = [each for each in _reports(service) if _is_of(service, each, adapter)]
    notes = [each.note for each in found if each.note is not None]
    faults = [note for note in notes if not note.ready]
    return Verdict(
        usable=sum(each.usable for each in found),
        faulty=sum(each.faulty for each in found),
        note=next(iter(faults or notes), None),
    )


def spoiled(service: Service, serving: Revision, desired: Revision) -> str:
    """What workers of the new revision cannot use and those of the old one could, or never had:
    a reason to go back; empty if there is nothing. What both have from the same place and nobody
    can use is no fault of the change."""
    found, before = _reports(service), serving.spec
    usable = {each.name for each in found if each.revision == serving.name and each.usable}
    for each in found:
        if each.revision != desired.name or each.note is None or not each.faulty:
            continue
        old, new = before.adapter(each.name), desired.spec.adapter(each.name)
        same = old is not None and new is not None and is_same(old, new)
        if not same or each.name in usable:
            return f"adapter {each.name}: {each.note.message}"
    return ""


def have_reported(service: Service, revision: Revision, replicas: int) -> bool:
    """Whether so many ready workers of a revision have said what they can use. Where no gateway
    answers, or there is nothing to say, nobody is waited for."""
    if service.report is None or not revision.spec.adapters:
        return True
    workers = service.report.workers
    return sum(each.ready and each.revision == revision.name for each in workers) >= replicas


def spec_of(adapter: Adapter, artifact: Artifact | None) -> AdapterSpec:
    """The adapter as workers read it. `artifact`: of the fine-tune that it follows."""
    return AdapterSpec(
        name=adapter.name,
        artifact=reference(artifact),
        files=files_of(adapter.files),
        strength=adapter.strength,
        trigger=adapter.trigger,
        distilled=adapter.distilled and Distilled(**adapter.distilled.model_dump()),
    )


def reported(files: AdapterFiles | None) -> ReportedFiles | None:
    """The files as a status names them."""
    return None if files is None else ReportedFiles(**files.model_dump())


def place(status: AdapterStatus) -> Artifact | ReportedFiles | None:
    """What the reason of a status is about."""
    return status.files or artifact_named(status)


def as_served(service: Service, serving: Revision | None) -> Service:
    """With the weights of status.weights and status.adapters that workers of `serving` have, and
    the others as what is next. None: nothing is served."""
    status, spec = service.status, serving.spec if serving else None
    adapters = []
    for each in status.adapters:
        served = spec and spec.adapter(each.name)
        now, following = _parted(served.artifact if served else None, artifact_named(each))
        update = {"artifact": now, "next_artifact": following}
        adapters.append(each.model_copy(update=update))
    now, following = _parted(spec.weights if spec else None, weights_named(status))
    return service.with_status(adapters=adapters, weights=now, next_weights=following)


def artifact_named(status: AdapterStatus) -> Artifact | None:
    """Weights that the adapter's spec named last, served or not yet."""
    return status.next_artifact or status.artifact


def weights_named(status: WanInferenceServiceStatus) -> Artifact | None:
    """Weights in place of the base model's that the spec named last, served or not yet."""
    return status.next_weights or status.weights


def _parted(
    read: ManifestRef | None, named: Artifact | None
) -> tuple[Artifact | None, Artifact | None]:
    """The artifact that workers read, and the one that was named if it is another."""
    served = None if read is None else Artifact(uri=read.uri, sha256=read.sha256)
    return served, None if named == served else named


def reference(artifact: Artifact | None) -> ManifestRef | None:
    """The artifact as workers read it."""
    return None if artifact is None else ManifestRef(uri=artifact.uri, sha256=artifact.sha256)


def is_same(one: AdapterSpec, other: AdapterSpec) -> bool:
    """Whether both are from the same place."""
    return (one.artifact, one.files) == (other.artifact, other.files)


def _reports(service: Service) -> tuple[AdapterReport, ...]:
    return service.report.adapters if service.report else ()


def _is_of(service: Service, report: AdapterReport, adapter: AdapterSpec) -> bool:
    """Whether it is of this adapter, from the same place."""
    if report.name != adapter.name:
        return False
    revision = service.revision(report.revision)
    served = None if revision is None else revision.spec.adapter(adapter.name)
    return served is not None and is_same(served, adapter)


def files_of(files: AdapterFiles | None) -> dict[Expert, str]:
    """URIs of an adapter's own files, by expert; none of one that follows a fine-tune."""
    if files is None:
        return {}
    named = {
        Expert.ONLY: files.uri,
        Expert.HIGH_NOISE: files.high_noise,
        Expert.LOW_NOISE: files.low_noise,
    }
    return {expert: uri for expert, uri in named.items() if uri is not None}
