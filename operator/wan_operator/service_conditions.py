"""Conditions of a WanInferenceService: their types and their closed list of reasons.

`Ready` for GitOps tools and `kubectl wait`; `Reconciling` and `Stalled` are kstatus's.
"""

from __future__ import annotations

from wan_operator.conditions import REASONS as OF_RUNS
from wan_operator.conditions import RECONCILING, STALLED, Vocabulary

READY = "Ready"
MODEL_READY = "ModelReady"
ADAPTERS_READY = "AdaptersReady"
WAITING = "WaitingForCapacity"
"""A reason."""

TYPES: dict[str, str] = {
    STALLED: "Nothing will change until somebody acts; the message says on what. What served "
    "before goes on serving. Present only while true.",
    READY: "The gateway answers and as many workers as are wanted take videos; none may be wanted.",
    RECONCILING: "The operator works towards the spec, or waits for the cause in the reason. "
    "Present only while true.",
    MODEL_READY: "The base model is imported. Only for models from S3.",
    ADAPTERS_READY: "Every adapter that follows a fine-tune has its weights. Only with such "
    "adapters.",
}
"""Type -> what it says. In the order of `status.conditions`: the first that is True says most."""

_OWN: dict[str, str] = {
    "Serving": "The gateway answers and all workers take videos.",
    "ScaledToZero": "No worker is wanted now. The gateway answers; a request brings a worker, or "
    "with spec.replicas 0 it waits for one.",
    "GatewayStarting": "No pod of the gateway answers yet.",
    "GatewayFailed": "A gateway ends again and again; the message has its last words.",
    "WorkersStarting": "Workers load the model and warm up.",
    "WorkersNotReady": "Some workers that were ready are not; the message has the cause.",
    "WorkerFailed": "A worker ends again and again; the message has its last words.",
    WAITING: "No node has room for the workers that a rollout adds: nothing was started, the old "
    "ones serve, and it begins by itself once there is room. The message says what is lacking.",
    "RollingOut": "Workers of a new revision replace the old ones.",
    "CanaryProving": "Some workers of a new revision get a share of the requests.",
    "RolledBack": "The new revision was not good; the old one serves. Change the spec to try "
    "again: the message has the cause.",
    "Scaled": "Autoscaling wants another number of workers.",
    "ImportingModel": "The base model is being verified and converted, once for a store prefix.",
    "ModelImported": "The base model's manifest is committed.",
    "FineTunesDone": "All fine-tunes that the service follows have their weights.",
    "WaitingForFineTune": "A fine-tune that an adapter or the model follows is not done.",
    "FineTuneNotFound": "A WanFineTune of this name does not exist in the namespace.",
    "FineTuneFailed": "A fine-tune that is followed has failed, or can't go on.",
    "FineTuneUnsuitable": "A fine-tune is of another preset, method or bucket than the service "
    "needs; the message says which.",
    "DatabaseNotConfigured": "Neither spec.database nor the operator's settings name the Secret "
    "with the database's URL.",
    "DoesNotFit": "By the planner, a video of the default size and length, or the largest that may "
    "be asked for, needs more GPU memory than the GPU has; the message has the numbers and the "
    "smallest changes that help. No worker was started.",
    "GatewayAPINotInstalled": "spec.gateway.httpRoute needs the Gateway API, which the cluster "
    "does not serve.",
}
_SHARED = (
    "StoreNotConfigured", "SpecInvalid", "NameConflict", "RequestRefused", "ContainerFailed",
    "Unschedulable", "ImagePullBackOff", "SecretNotFound", "ContainerConfigError", "VolumePending",
    "PodStarting", "PodNotCreated", "PodEvicted", "PodLost", "NodeLost", "JobLost", "ResultMissing",
    "StepStarting", "Queued", "ModelNotFound", "ModelInvalid", "JobInvalid", "HostOutOfMemory",
    "StoreUnreachable", "StoreAccessDenied", "StoreNotFound", "ArtifactCorrupt", "DiskFull",
    "Unexpected", "Terminated",
)  # fmt: skip

VOCABULARY = Vocabulary(TYPES, {**{name: OF_RUNS[name] for name in _SHARED}, **_OWN})
