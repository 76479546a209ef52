"""The fine-tunes that an evaluation names: what they made, or what is waited for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from wan_operator.api.v1alpha1.common import Artifact, EffectiveStore
from wan_operator.api.v1alpha1.finetune import (
    KIND as FINETUNE_KIND,
)
from wan_operator.api.v1alpha1.finetune import (
    WanFineTuneSpec,
    WanFineTuneStatus,
)
from wan_operator.conditions.merge import STALLED, first_true
from wan_operator.conditions.runs import FAILED
from wan_operator.reconcile.observed import Key, Raw
from wan_runtime.contract.steps import CHECKPOINTED, Step


@dataclass(frozen=True, slots=True)
class FineTune:
    """A fine-tune that has made what is wanted of it."""

    spec: WanFineTuneSpec
    status: WanFineTuneStatus

    @property
    def prepared(self) -> Artifact | None:
        """Its dataset, with the clips that it holds out."""
        steps = self.status.steps
        return next((step.artifact for step in steps if step.name == Step.PREPARE), None)

    @property
    def gpu_seconds(self) -> float:
        """GPU-seconds from the start to the end of its encode and train steps."""
        effective = self.status.effective
        spread = None if effective is None else effective.parallelism
        training = 1 if spread is None else spread.nodes * spread.gpus_per_node
        # What several encodings left is gathered without a GPU.
        gathers = any(step.name.startswith(f"{Step.ENCODE}-") for step in self.status.steps)
        return sum(
            (step.completion_time - step.start_time).total_seconds()
            * (training if step.name.startswith(CHECKPOINTED) else 1)
            for step in self.status.steps
            if step.name.startswith((Step.ENCODE, *CHECKPOINTED))
            and not (gathers and step.name == Step.ENCODE)
            and step.start_time is not None
            and step.completion_time is not None
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is nothing of a fine-tune yet."""

    reason: str
    message: str


def follows(cr: Raw) -> Iterable[Key]:
    """The fine-tunes that a raw evaluation names, each once."""
    spec, namespace = cr.get("spec", {}), cr["metadata"]["namespace"]
    named = (spec.get("clips", {}), *spec.get("candidates", ()))
    names = (each["fineTuneRef"]["name"] for each in named if "fineTuneRef" in each)
    return [Key(FINETUNE_KIND, namespace, name) for name in dict.fromkeys(names)]


def find(name: str, cr: Raw | None, namespace: str, store: EffectiveStore) -> FineTune | Missing:
    """The fine-tune in its own words, as far as this release can read them.

    Args:
        store: the evaluation's, whose pods have the credentials of no other.
    """
    if cr is None:
        text = f"WanFineTune {name} does not exist in namespace {namespace}"
        return Missing("FineTuneNotFound", text)
    try:
        found = FineTune(
            WanFineTuneSpec.model_validate(cr["spec"]),
            WanFineTuneStatus.model_validate(cr.get("status", {})),
        )
    except ValidationError:
        return Missing("WaitingForFineTune", f"WanFineTune {name} was written by another release")
    effective = found.status.effective
    if effective is not None and effective.store.endpoint != store.endpoint:
        text = f"WanFineTune {name} writes to {effective.store.endpoint}, not to {store.endpoint}"
        return Missing("FineTuneUnsuitable", text)
    return found


def weights(name: str, found: FineTune) -> Artifact | Missing:
    """What it exported."""
    return found.status.artifact or _missing(name, found, "weights")


def clips(name: str, found: FineTune) -> Artifact | Missing:
    """Its dataset, with the clips that it holds out."""
    return found.prepared or _missing(name, found, "clips")


def _missing(name: str, found: FineTune, what: str) -> Missing:
    status = found.status
    why = first_true(status.conditions, FAILED, STALLED)
    if why is not None:
        text = f"WanFineTune {name} has no {what}: {why.reason}: {why.message}"
        return Missing("FineTuneFailed", text)
    at = status.progress.display if status.progress else ""
    return Missing("WaitingForFineTune", f"WanFineTune {name} is not done: {at or 'not started'}")
