"""The evaluations that a service follows: the candidate that it serves, and the gate that a canary
waits for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from wan_operator.api.v1alpha1.common import Artifact
from wan_operator.api.v1alpha1.evaluation import KIND as EVALUATION_KIND
from wan_operator.api.v1alpha1.evaluation import WanEvaluationStatus
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate
from wan_operator.api.v1alpha1.inference import FromEvaluation
from wan_operator.conditions.evaluation import GATE_PASSED
from wan_operator.conditions.merge import STALLED, first_true, is_true
from wan_operator.conditions.runs import COMPLETE, FAILED
from wan_operator.reconcile.observed import Key, Raw
from wan_operator.reconcile.service.found import Found
from wan_operator.reconcile.service.state import Service
from wan_runtime.contract.evaluation import WINNER


@dataclass(frozen=True, slots=True)
class Gate:
    """What an evaluation says of its gate."""

    passed: bool | None
    """False also if it has ended without passing; None while it has not ended."""
    message: str


def follows(cr: Raw) -> Iterable[Key]:
    """The evaluations that a raw service names."""
    spec, namespace = cr.get("spec", {}), cr["metadata"]["namespace"]
    for each in (spec.get("model", {}), *spec.get("adapters", ())):
        if "fromEvaluation" in each:
            yield Key(EVALUATION_KIND, namespace, each["fromEvaluation"]["name"])
    gate = spec.get("rollout", {}).get("gate")
    if gate is not None:
        yield Key(EVALUATION_KIND, namespace, gate["evaluationRef"]["name"])


def gate_of(service: Service) -> Gate | None:
    """The gate of the rollout; None without one."""
    gate = service.spec.rollout.gate
    if gate is None:
        return None
    name = gate.evaluation_ref.name
    cr = _raw(service, name)
    if cr is None:
        return Gate(None, f"WanEvaluation {name}, which does not exist, has to pass its gate")
    status = _status(cr)
    found = next((each for each in status.conditions if each.type == GATE_PASSED), None)
    said = f"the gate of WanEvaluation {name}"
    if found is not None and found.status != "Unknown":
        passed = found.status == "True"
        return Gate(passed, f"{said} {'passed' if passed else 'did not pass'}: {found.message}")
    why = found.message if found is not None else "it has none: set its spec.gate"
    if any(is_true(status.conditions, type_) for type_ in (COMPLETE, FAILED)):
        return Gate(False, f"{said} did not pass: {why}")
    return Gate(None, f"{said} is waited for: {why}")


def find(service: Service, wanted: FromEvaluation, method: str, before: Artifact | None) -> Found:
    """Weights of a candidate. Those of a base model are none, without a reason.

    Args:
        method: `LoRA` for an adapter, `Full` for the model.
        before: served until now.
    """
    name = wanted.name
    cr = _raw(service, name)
    if cr is None:
        where = service.owner.namespace
        text = f"WanEvaluation {name} does not exist in namespace {where}"
        return Found(before, "EvaluationNotFound", text)
    status = _status(cr)
    if not is_true(status.conditions, COMPLETE):
        return _unfinished(name, status, before)
    candidate = status.winner if wanted.candidate == WINNER else wanted.candidate
    if not candidate:
        return Found(before, "EvaluationUnsuitable", _undecided(name, status))
    listed = status.effective.candidates if status.effective is not None else []
    found = next((each for each in listed if each.name == candidate), None)
    if found is None:
        there = ", ".join(each.name for each in listed)
        text = f"WanEvaluation {name} has no candidate {candidate}: it has {there}"
        return Found(None, "EvaluationUnsuitable", text)
    unsuitable = _unsuitable(service, cr, found, method)
    if unsuitable:
        text = f"candidate {candidate} of WanEvaluation {name} {unsuitable}"
        return Found(None, "EvaluationUnsuitable", text)
    return Found(found.weights)


def _unfinished(name: str, status: WanEvaluationStatus, before: Artifact | None) -> Found:
    why = first_true(status.conditions, FAILED, STALLED)
    if why is not None:
        text = f"WanEvaluation {name} has no result: {why.reason}: {why.message}"
        return Found(before, "EvaluationFailed", text)
    at = status.progress.display if status.progress else ""
    return Found(
        before, "WaitingForEvaluation", f"WanEvaluation {name} is not done: {at or 'not started'}"
    )


def _undecided(name: str, status: WanEvaluationStatus) -> str:
    """What to do without a winner, before the reasons, which may be many."""
    cheapest = status.cheapest_good
    hint = f", as {cheapest}, the cheapest that is not worse beyond the noise" if cheapest else ""
    return (
        f"WanEvaluation {name} has no winner: name one of its candidates in "
        f"fromEvaluation.candidate{hint}, or compare on more clips; {status.decision}: "
        f"{status.message}"
    )


def _unsuitable(service: Service, cr: Raw, found: EffectiveCandidate, method: str) -> str:
    """Why the service cannot serve a candidate in this place; empty if it can."""
    wanted = service.spec.model.preset
    named = next(each for each in cr["spec"]["candidates"] if each["name"] == found.name)
    if not found.preset:
        return "was not rendered by the evaluation: name a candidate with model or fineTuneRef"
    if found.preset != wanted:
        return f"is of {found.preset}, the service of {wanted}: set spec.model.preset"
    if "adapter" in named:
        return "has LoRA files: name them in spec.adapters[].files"
    if method == "LoRA" and found.method != "LoRA":
        return "is no LoRA: name it in spec.model.fromEvaluation"
    if method == "Full" and found.method == "LoRA":
        return "is a LoRA: name it in spec.adapters[].fromEvaluation"
    return ""


def _raw(service: Service, name: str) -> Raw | None:
    return service.observed.followed.get(Key(EVALUATION_KIND, service.owner.namespace, name))


def _status(cr: Raw) -> WanEvaluationStatus:
    """Nothing, of one that another release has written."""
    try:
        return WanEvaluationStatus.model_validate(cr.get("status", {}))
    except ValidationError:
        return WanEvaluationStatus()
