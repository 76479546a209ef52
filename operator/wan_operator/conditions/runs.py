"""Conditions of the kinds that run to completion: types and the closed list of reasons.

They follow `batch/v1` Job: `Complete`, `Failed`, `Suspended` and `Running`, and no `Ready`, so that
a GitOps tool calls a run current once it runs and does not wait hours for its end. `Reconciling`
and `Stalled` are kstatus's.
"""

from __future__ import annotations

from wan_operator.conditions import pods
from wan_operator.conditions.merge import RECONCILING, STALLED, Vocabulary
from wan_runtime.contract.reasons import Explanation, Reason

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

_OF_STEPS = {reason.value: reason.explanation for reason in Reason}

_OF_OPERATOR: dict[str, Explanation] = {
    "StepStarting": Explanation("The next step is about to start."),
    "StepRunning": Explanation("The container of the step runs."),
    "DatasetPrepared": Explanation("The manifest of the dataset is committed."),
    "Suspending": Explanation(
        "The pods are being stopped; a training step saves a checkpoint first."
    ),
    "SuspendedByUser": Explanation(
        "The run is held by spec.suspend.",
        "Somebody set `spec.suspend: true`.",
        '`kubectl patch KIND/NAME --type=merge -p \'{"spec":{"suspend":false}}\'`: it resumes '
        "from its checkpoint.",
    ),
    "DeadlineExceeded": Explanation(
        "The run took longer than spec.activeDeadlineSeconds.",
        "The deadline is shorter than the run, or the run waited long for a GPU.",
        "`kubectl wan plan -f FILE` estimates the hours. Raise `spec.activeDeadlineSeconds`, and "
        "`kubectl replace --force -f FILE`.",
    ),
    "DoesNotFit": Explanation(
        "Training needs more GPU memory than the GPU has, or more host memory than "
        "spec.resources.memory, by the planner's estimate; the message has the numbers and the "
        "smallest changes that help. No pod was started.",
        "Frames, size, batch or method are too large for the GPU type that the pod would get, or "
        "what training keeps in host memory for the memory that its pods may have.",
        "Make one of the changes in the message, see that `kubectl wan plan -f FILE` says that it "
        "fits, and `kubectl apply -f FILE`; or choose a larger GPU with `kubectl edit "
        "wft/NAME`, `spec.podTemplate.nodeSelector`.",
    ),
    "WarmUpTooLong": Explanation(
        "The learning rate would rise for longer than the run trains; the message has both numbers "
        "of steps. No GPU was requested.",
        "The number of steps follows from `spec.training.epochs` and the clips, and "
        "`spec.training.schedule.warmupSteps` is more.",
        "Lower the warm-up or raise the epochs with `kubectl edit wft/NAME`, which is acted on at "
        "once.",
    ),
    "StoreNotConfigured": Explanation(
        "Neither spec.store nor the operator's settings name the store; the message names the "
        "missing fields and Helm values.",
        "The chart was installed without `store` values, and the resource has no `spec.store`.",
        "`helm upgrade --reuse-values --set store.endpoint=URL --set store.bucket=BUCKET --set "
        "store.secretName=SECRET`, or `spec.store` with `kubectl edit KIND/NAME`.",
    ),
    "SpecInvalid": Explanation(
        "The resource holds values that this release cannot read.",
        "It was stored by another release, or the CRDs are of another release than the operator.",
        "`kubectl apply -f crds/` brings the CRDs of this release; correct the fields in the "
        "message with `kubectl edit KIND/NAME`.",
    ),
    "NameConflict": Explanation(
        "Another owner's object has the name of an object that the operator has to create.",
        "Something else in the namespace made an object of that name before.",
        "`kubectl get KIND OBJECT -o yaml` shows its owner. Delete or rename it, or give the "
        "resource another name.",
    ),
    "RequestRefused": Explanation(
        "The API server refuses an object that the operator has to create; the message is its "
        "answer. The operator tries again every ten seconds.",
        "A quota, an admission rule or missing rights of the operator's service account.",
        "Change what the message names: the quota (`kubectl describe quota`), the rule, the "
        "`podTemplate` (`kubectl edit KIND/NAME`, which is acted on at once), or the rights "
        "(`helm upgrade --reuse-values --set rbac.create=true`).",
    ),
}

REASONS: dict[str, Explanation] = {**_OF_STEPS, **pods.REASONS, **_OF_OPERATOR}
"""Reason -> what it means, its causes and cure. Closed: no condition and no event has another."""

RUNS = Vocabulary(CONDITION_TYPES, REASONS)
