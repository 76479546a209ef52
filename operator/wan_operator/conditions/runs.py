"""Conditions of the kinds that run to completion: types and the closed list of reasons.

They follow `batch/v1` Job: `Complete`, `Failed`, `Suspended` and `Running`, and no `Ready`, so that
a GitOps tool calls a run current once it runs and does not wait hours for its end. `Reconciling`
and `Stalled` are kstatus's.
"""

from __future__ import annotations

from wan_operator.conditions import pods
from wan_operator.conditions.merge import RECONCILING, STALLED, Vocabulary
from wan_runtime.contract.reasons import Reason

RUNNING = "Running"
COMPLETE = "Complete"
FAILED = "Failed"
SUSPENDED = "Suspended"
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

REASONS: dict[str, str] = {**_OF_STEPS, **pods.REASONS, **_OF_OPERATOR}
"""Reason -> what it means and what helps. Closed: no condition and no event has another."""

RUNS = Vocabulary(CONDITION_TYPES, REASONS)
