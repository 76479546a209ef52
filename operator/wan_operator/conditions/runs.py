"""Conditions: the types and the closed list of reasons of the run-to-completion kinds, and the one
builder for all kinds.

Those of runs follow `batch/v1` Job: `Complete`, `Failed`, `Suspended` and `Running`, and no
`Ready`, so that a GitOps tool calls a run current once it runs and does not wait hours for its end.
`Reconciling` and `Stalled` are kstatus's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from wan_operator.api.v1alpha1.common import Condition
from wan_runtime.contract.job import Reason

RUNNING = "Running"
COMPLETE = "Complete"
FAILED = "Failed"
SUSPENDED = "Suspended"
RECONCILING = "Reconciling"
STALLED = "Stalled"
DATASET_READY = "DatasetReady"

CONDITION_TYPES: dict[str, str] = {
    COMPLETE: "All steps are done and the weights are in the store. Present only once true; final.",
    FAILED: "The run has ended without its result. Present only once true, together with Stalled; "
    "final.",
    SUSPENDED: "The run is held by spec.suspend and no pod is left. Present only while true.",
    STALLED: "Nothing will change until somebody acts; the message says what to do. Present only "
    "while true.",
    RECONCILING: "The operator prepares the next step, or waits for what the reason says. Present "
    "only while true.",
    RUNNING: "The container of a step runs. While false, it has the reason of the first condition "
    "in the list.",
    DATASET_READY: "Every clip was checked and the split is committed. False, with the reason, if "
    "the dataset is refused.",
}
"""Type -> what it means. In the order of `status.conditions`: the first that is True says most
about the state."""

_OF_STEPS: dict[str, str] = {reason.value: reason.text for reason in Reason}

_OF_PODS: dict[str, str] = {
    "ContainerFailed": "The container ended without a result; the message has its exit code.",
    "ResultMissing": "The container exited with 0 but left no readable result. The step is retried "
    "and reports it again.",
    "PodEvicted": "The pod was evicted, preempted or drained before it could save a checkpoint.",
    "PodLost": "The pod, or its node, was deleted and left no result.",
    "JobLost": "The Job of the running attempt was deleted.",
    "NodeLost": "The node of the pod does not answer. The pod counts as running until the node is "
    "back or removed.",
    "Unschedulable": "No node fits the pod; the message is the scheduler's.",
    "ImagePullBackOff": "The image cannot be pulled; the message names it.",
    "SecretNotFound": "A Secret that the pod needs, or a key in it, does not exist; the message "
    "names both.",
    "ContainerConfigError": "The container cannot be configured; the message is the kubelet's.",
    "VolumePending": "A volume of the pod is not available yet; the message names it.",
    "PodStarting": "The pod has a node, and its container is being created.",
    "PodNotCreated": "The Job has had no pod for a minute: a quota or an admission rule refuses "
    "it. The Job's events have the message.",
    "Queued": "Kueue holds the Job until there is room in its queue.",
}

_OF_OPERATOR: dict[str, str] = {
    "StepStarting": "The next step is about to start.",
    "StepRunning": "The container of the step runs.",
    "DatasetPrepared": "The manifest of the dataset is committed.",
    "Suspending": "The pods are being stopped; a training step saves a checkpoint first.",
    "SuspendedByUser": "The run is held by spec.suspend.",
    "DeadlineExceeded": "The run took longer than spec.activeDeadlineSeconds.",
    "DoesNotFit": "Training needs more GPU memory than the GPU has, by the planner's estimate; the "
    "message has the numbers and the smallest changes that help. No pod was started.",
    "StoreNotConfigured": "Neither spec.store nor the operator's settings name the store; the "
    "message names the missing fields and Helm values.",
    "SpecInvalid": "The resource holds values that this release cannot read.",
    "NameConflict": "Another owner's object has the name of an object that the operator has to "
    "create.",
    "RequestRefused": "The API server refuses an object that the operator has to create; the "
    "message is its answer. The operator tries again every minute while another step runs, else "
    "every five minutes.",
}

REASONS: dict[str, str] = {**_OF_STEPS, **_OF_PODS, **_OF_OPERATOR}
"""Reason -> what it means and what helps. Closed: no condition and no event has another."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that the conditions of a kind may say."""

    types: Mapping[str, str]
    reasons: Mapping[str, str]


RUNS = Vocabulary(CONDITION_TYPES, REASONS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one condition should say."""

    type: str
    status: bool
    reason: str
    message: str = ""


def merge(
    previous: Sequence[Condition],
    wanted: Iterable[Wanted],
    generation: int,
    now: datetime,
    vocabulary: Vocabulary = RUNS,
) -> list[Condition]:
    """The new list: exactly `wanted`, ordered by what tells most, each with its old transition time
    unless its status changed. A condition that is no longer wanted is gone."""
    before = {condition.type: condition for condition in previous}
    ranks = {name: rank for rank, name in enumerate(vocabulary.types)}
    merged = []
    for want in sorted(wanted, key=lambda want: (not want.status, ranks[want.type])):
        assert want.reason in vocabulary.reasons, f"{want.reason} is not a documented reason"
        status = "True" if want.status else "False"
        old = before.get(want.type)
        same = old is not None and old.status == status
        merged.append(
            Condition(
                type=want.type,
                status=status,
                reason=want.reason,
                message=want.message[:32768],
                last_transition_time=old.last_transition_time if old is not None and same else now,
                observed_generation=generation,
            )
        )
    return merged


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    return any(condition.type == type_ and condition.status == "True" for condition in conditions)
