"""Conditions of a WanInferenceService: their types and their closed list of reasons.

`Ready` for GitOps tools and `kubectl wait`; `Reconciling` and `Stalled` are kstatus's.
"""

from __future__ import annotations

from wan_operator.conditions.merge import RECONCILING, STALLED, Vocabulary
from wan_operator.conditions.runs import REASONS as OF_RUNS

READY = "Ready"
MODEL_READY = "ModelReady"
ADAPTERS_READY = "AdaptersReady"
WAITING = "WaitingForCapacity"
"""A reason."""

TYPES: dict[str, str] = {
    STALLED: "Nothing will change until somebody acts; the message says what to do. What served "
    "before still serves. Present only while true.",
    READY: "The gateway answers, and the wanted number of workers, which may be 0, take videos.",
    RECONCILING: "The operator works towards the spec, or waits for what the reason says. Present "
    "only while true.",
    MODEL_READY: "The base model is imported. Present only for models from S3.",
    ADAPTERS_READY: "Workers can use every adapter. While false, the base model and the other "
    "adapters are served, and the message has the name, address and cause of each that is not. "
    "Absent without adapters, and until a worker has reported on its files.",
}
"""Type -> what it means. In the order of `status.conditions`: the first that is True says most."""

_OWN: dict[str, str] = {
    "Serving": "The gateway answers and all workers take videos.",
    "ScaledToZero": "No worker is wanted now. The gateway answers, and requests wait: with "
    "spec.autoscaling a worker starts for them, with spec.replicas 0 none does.",
    "GatewayStarting": "No pod of the gateway answers yet.",
    "GatewayFailed": "A gateway ends again and again; the message has its last lines.",
    "WorkersStarting": "Workers load the model and warm up.",
    "WorkersNotReady": "Some workers that were ready are not; the message has the cause.",
    "WorkerFailed": "A worker ends again and again; the message has its last lines.",
    WAITING: "No node has room for the workers that a rollout adds; the message says what is "
    "missing. The old workers serve, nothing was started, and the rollout begins once there is "
    "room.",
    "RollingOut": "Workers of a new revision replace the old ones.",
    "CanaryProving": "Some workers of a new revision get a share of the requests.",
    "RolledBack": "The new revision was rolled back and the old one serves; the message has the "
    "cause. Change the spec to try again.",
    "Scaled": "Autoscaling changed the number of workers.",
    "AdaptersLoaded": "Workers have fetched every adapter, and each fits the model.",
    "AdapterNotFound": "A file of an adapter does not exist; the message has its address.",
    "AdapterInvalid": "A file of an adapter is no LoRA, or none for this model; the message has "
    "its address and the cause.",
    "ImportingModel": "The base model is being verified and converted, once for a store prefix.",
    "ModelImported": "The manifest of the base model is committed.",
    "FineTunesDone": "All fine-tunes that the service names have exported their weights.",
    "WaitingForFineTune": "A fine-tune that an adapter or the model names has not exported its "
    "weights yet.",
    "FineTuneNotFound": "A WanFineTune of this name does not exist in the namespace.",
    "FineTuneFailed": "A fine-tune that an adapter or the model names has failed or is stalled.",
    "FineTuneUnsuitable": "A fine-tune has another preset or method than the service needs; the "
    "message says which.",
    "DatabaseNotConfigured": "Neither spec.database nor the operator's settings name the Secret "
    "with the database's URL.",
    "DoesNotFit": "A video of the default size and length, or the largest that requests may ask "
    "for, needs more GPU memory than the GPU has, by the planner's estimate; the message has the "
    "numbers and the smallest changes that help. No worker was started.",
    "GatewayAPINotInstalled": "The cluster does not have the Gateway API, which "
    "spec.gateway.httpRoute needs.",
}
ADAPTER_REASONS = {"ModelNotFound": "AdapterNotFound", "ModelInvalid": "AdapterInvalid"}
"""What a worker's reason is called where an adapter is meant."""
_SHARED = (
    "StoreNotConfigured", "SpecInvalid", "NameConflict", "RequestRefused", "ContainerFailed",
    "Unschedulable", "ImagePullBackOff", "SecretNotFound", "ContainerConfigError", "VolumePending",
    "PodStarting", "PodNotCreated", "PodEvicted", "PodLost", "NodeLost", "JobLost", "ResultMissing",
    "StepStarting", "Queued", "ModelNotFound", "ModelInvalid", "JobInvalid", "HostOutOfMemory",
    "StoreUnreachable", "StoreAccessDenied", "StoreNotFound", "ArtifactCorrupt", "DiskFull",
    "Unexpected", "Terminated",
)  # fmt: skip

VOCABULARY = Vocabulary(TYPES, {**{name: OF_RUNS[name] for name in _SHARED}, **_OWN})
