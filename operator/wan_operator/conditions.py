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

RUNNING = "Running"
COMPLETE = "Complete"
FAILED = "Failed"
SUSPENDED = "Suspended"
RECONCILING = "Reconciling"
STALLED = "Stalled"
DATASET_READY = "DatasetReady"

CONDITION_TYPES: dict[str, str] = {
    COMPLETE: "All steps are done and the weights are in the store. Present only once true; final.",
    FAILED: "The run has ended without its result. Present only once true; final. Comes with "
    "Stalled.",
    SUSPENDED: "spec.suspend holds the run and no pod is left. Present only while true.",
    STALLED: "Nothing will change until somebody acts; the message says on what. Present only "
    "while true.",
    RECONCILING: "The operator works towards the next step, or waits for the cause in the reason. "
    "Present only while true.",
    RUNNING: "True while a step's container runs. While false, it has the reason of the condition "
    "before it.",
    DATASET_READY: "True once every clip was checked and the split is committed; false with the "
    "reason when the "
    "dataset is refused.",
}
"""Type -> what it says. In the order of `status.conditions`: the first that is True says most about
the state."""

_OF_STEPS: dict[str, str] = {
    "Completed": "The step, or the whole run, reached its result.",
    "DatasetNotFound": "The metadata file or the prefix does not exist.",
    "DatasetEmpty": "The metadata file lists no clip, or too few remain to train and hold one "
    "source out.",
    "DatasetInvalid": "The metadata file cannot be read or lacks a column.",
    "ClipInvalid": "A clip fails a check; the message names the first ones, the manifest lists "
    "all.",
    "ModelNotFound": "The model source does not hold the files that the preset needs.",
    "ModelInvalid": "The files are there, but are not this preset's weights, or their digest "
    "differs.",
    "JobInvalid": "The runtime cannot read the job file: operator and runtime image are of "
    "different releases.",
    "LoraTargetUnknown": "A target module matches nothing in the model.",
    "GPUOutOfMemory": "The GPU's memory ran out. Fewer frames, a smaller size, or Full gradient "
    "checkpointing help.",
    "HostOutOfMemory": "The container reached its memory limit. Raise spec.resources.memory.",
    "StoreUnreachable": "The store does not answer. Retried.",
    "StoreAccessDenied": "The store refused the credentials. Retried: correcting the Secret heals "
    "it.",
    "StoreNotFound": "The bucket does not exist. Retried: creating it heals it.",
    "ArtifactCorrupt": "A stored object does not match the checksum in its manifest.",
    "DiskFull": "The pod's scratch volume or the model cache is too small; the message says which "
    "and by how much. Raise spec.resources.cache.",
    "Unexpected": "An error that we did not foresee; the message holds its last line, the log the "
    "rest.",
    "Terminated": "The pod was told to stop and saved a checkpoint. It starts again and costs no "
    "retry.",
    "NonFiniteLoss": "The loss is not a number any more. Lower the learning rate.",
    "Diverged": "The held-out loss rose to three times its lowest value; the message has both.",
    "DeadGradients": "After the first step some trainable module has no gradient; the message "
    "lists them.",
}

_OF_PODS: dict[str, str] = {
    "ContainerFailed": "The container ended without a result; the message has its exit code.",
    "ResultMissing": "The container ended well but left no readable result. Retried: the step "
    "reports it again.",
    "PodEvicted": "The node evicted the pod, or it was preempted or drained before it could save "
    "a checkpoint.",
    "PodLost": "The pod is gone and left no result: deleted, or its node is.",
    "JobLost": "Somebody deleted the Job of the running attempt.",
    "NodeLost": "The pod is on a node that does not answer. It counts as running until the node "
    "is back or removed.",
    "Unschedulable": "No node fits the pod; the message is the scheduler's.",
    "ImagePullBackOff": "The image cannot be pulled; the message names it.",
    "SecretNotFound": "A Secret that the pod needs, or a key in it, does not exist; the message "
    "names both.",
    "ContainerConfigError": "The container cannot be configured; the message is the kubelet's.",
    "VolumePending": "A volume of the pod is not there yet; the message names it.",
    "PodStarting": "The pod is on a node and its container is being made.",
    "PodNotCreated": "The Job has had no pod for a minute: a quota or an admission rule refuses "
    "it, see its events.",
    "Queued": "Kueue holds the Job until there is room in its queue.",
}

_OF_OPERATOR: dict[str, str] = {
    "StepStarting": "The next step is about to start.",
    "StepRunning": "The container of the step runs.",
    "DatasetPrepared": "The dataset's manifest is committed.",
    "Suspending": "The pods have been told to stop; a training step saves a checkpoint first.",
    "SuspendedByUser": "spec.suspend is true.",
    "DeadlineExceeded": "The run took longer than spec.activeDeadlineSeconds.",
    "DoesNotFit": "By the planner, training needs more GPU memory than the GPU has; the message "
    "has the numbers and the smallest changes that help. No pod was started.",
    "StoreNotConfigured": "Neither spec.store nor the operator's settings name the store; the "
    "message says which "
    "field or Helm value would.",
    "SpecInvalid": "The resource holds values that this release cannot read.",
    "NameConflict": "An object of a wanted child's name exists and is not ours.",
    "RequestRefused": "The API server refuses a child object; the message is its answer. Asked for "
    "again: every minute while another step runs, else every five.",
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
