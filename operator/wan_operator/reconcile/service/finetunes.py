"""The fine-tunes that a service follows: their weights, or what is waited for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from wan_operator.api.v1alpha1.common import Artifact
from wan_operator.api.v1alpha1.finetune import KIND as FINETUNE_KIND
from wan_operator.api.v1alpha1.finetune import WanFineTuneStatus
from wan_operator.api.v1alpha1.inference import Adapter, AdapterStatus
from wan_operator.conditions.merge import STALLED, first_true
from wan_operator.conditions.runs import FAILED
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.observed import Key, Raw
from wan_operator.reconcile.service import evaluations
from wan_operator.reconcile.service.adapters import (
    artifact_named,
    place,
    reported,
    spec_of,
    verdict,
    weights_named,
)
from wan_operator.reconcile.service.found import Found
from wan_operator.reconcile.service.state import Service


@dataclass(frozen=True, slots=True)
class Followed:
    adapters: list[AdapterStatus]
    weights: Artifact | None
    """In place of the base model's transformers."""
    missing: list[Found]
    """What is waited for; nothing of it is served before."""


def follows(cr: Raw) -> Iterable[Key]:
    """The fine-tunes that a raw service names."""
    spec, namespace = cr.get("spec", {}), cr["metadata"]["namespace"]
    for each in (spec.get("model", {}), *spec.get("adapters", ())):
        if "fineTuneRef" in each:
            yield Key(FINETUNE_KIND, namespace, each["fineTuneRef"]["name"])


def followed(service: Service) -> Followed:
    """With what was served before, until a run that took its name has its own weights."""
    before = {each.name: each for each in service.status.adapters}
    adapters, missing = [], []
    for adapter in service.spec.adapters:
        found, old = Found(None), before.get(adapter.name)
        artifact = artifact_named(old) if old else None
        if adapter.fine_tune_ref is not None:
            found = find(service, adapter.fine_tune_ref.name, "lora", artifact)
        if adapter.from_evaluation is not None:
            found = evaluations.find(service, adapter.from_evaluation, "LoRA", artifact)
        if found.reason and found.artifact is None:
            missing.append(found)
        adapters.append(_status(service, adapter, found, old))
    found = _model(service)
    if found.reason and found.artifact is None:
        missing.insert(0, found)
    return Followed(adapters, found.artifact, missing)


def _model(service: Service) -> Found:
    """What is served in place of the base model's transformers: nothing, unless the spec says."""
    model, before = service.spec.model, weights_named(service.status)
    if model.fine_tune_ref is not None:
        return find(service, model.fine_tune_ref.name, "full", before)
    if model.from_evaluation is not None:
        return evaluations.find(service, model.from_evaluation, "Full", before)
    return Found(None)


def _status(
    service: Service, adapter: Adapter, found: Found, before: AdapterStatus | None
) -> AdapterStatus:
    """What workers cannot use goes first. That holds for the same artifact or files until one says
    otherwise: those that said it may be gone since, scaled to zero or rolled back."""
    if adapter.files is None and found.artifact is None:
        return AdapterStatus(name=adapter.name, reason=found.reason, message=found.message)
    by_workers = verdict(service, spec_of(adapter, found.artifact))
    reason, message = by_workers.reason, by_workers.message
    files = reported(adapter.files)
    is_silent = not by_workers.usable and not by_workers.faulty
    if is_silent and before and place(before) == (files or found.artifact):
        reason, message = before.reason, before.message
    return built(
        AdapterStatus,
        name=adapter.name,
        artifact=found.artifact,
        files=files if reason else None,
        ready_workers=by_workers.usable,
        reason=reason,
        message=message if reason else found.message or by_workers.message,
    )


def find(service: Service, name: str, method: str, before: Artifact | None) -> Found:
    """`before`: served until now."""
    key = Key(FINETUNE_KIND, service.owner.namespace, name)
    cr = service.observed.followed.get(key)
    if cr is None:
        return Found(
            before,
            "FineTuneNotFound",
            f"WanFineTune {name} does not exist in namespace {key.namespace}",
        )
    unsuitable = _unsuitable(service, cr, method)
    if unsuitable:
        return Found(None, "FineTuneUnsuitable", f"WanFineTune {name} {unsuitable}")
    try:
        status = WanFineTuneStatus.model_validate(cr.get("status", {}))
    except ValidationError:
        status = WanFineTuneStatus()
    if status.artifact is not None:
        return Found(status.artifact)
    why = first_true(status.conditions, FAILED, STALLED)
    if why is not None:
        text = f"WanFineTune {name} has no weights: {why.reason}: {why.message}"
        return Found(before, "FineTuneFailed", text)
    at = status.progress.display if status.progress else "has not started"
    return Found(before, "WaitingForFineTune", f"WanFineTune {name} is not done: {at}")


def _unsuitable(service: Service, cr: Raw, method: str) -> str:
    spec, wanted = cr.get("spec", {}), service.spec.model.preset
    preset = spec.get("model", {}).get("preset", "")
    if preset != wanted:
        return f"is of {preset}, the service of {wanted}"
    if method not in spec.get("method", {"lora": {}}):
        what = {"lora": "an adapter", "full": "all weights"}[method]
        return f"does not make {what}: its method is not {method}"
    return ""
