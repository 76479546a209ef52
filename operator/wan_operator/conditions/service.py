"""Conditions of a WanInferenceService: their types and their closed list of reasons.

`Ready` for GitOps tools and `kubectl wait`; `Reconciling` and `Stalled` are kstatus's.
"""

from __future__ import annotations

from wan_operator.conditions import pods
from wan_operator.conditions.merge import RECONCILING, STALLED, Vocabulary
from wan_operator.conditions.runs import REASONS as OF_RUNS
from wan_runtime.contract.reasons import Explanation, GatewayReason

READY = "Ready"
MODEL_READY = "ModelReady"
ADAPTERS_READY = "AdaptersReady"
WAITING, EXCEEDED = "WaitingForCapacity", "ProgressDeadlineExceeded"
"""Reasons."""

TYPES: dict[str, str] = {
    STALLED: "Nothing will change until somebody acts; the message says what to do. What served "
    "before still serves. Present only while true.",
    READY: "The gateway answers, its store and database do what requests need, and the wanted "
    "number of workers, which may be 0, take videos. It is about what serves, also while a change "
    "of the spec waits or cannot be acted on. Unknown where the status cannot be read or written.",
    RECONCILING: "The operator works towards the spec, or waits for what the reason says. Present "
    "only while true.",
    MODEL_READY: "The base model is imported. Present only for models from S3.",
    ADAPTERS_READY: "Workers can use every adapter. While false, the base model and the other "
    "adapters are served, and the message has the name, address and cause of each that is not. "
    "Absent without adapters, and until a worker has reported on its files.",
}
"""Type -> what it means. In the order of `status.conditions`: the first that is True says most."""

_OWN: dict[str, Explanation] = {
    "Serving": Explanation("The gateway answers and all workers take videos."),
    "ScaledToZero": Explanation(
        "No worker is wanted now. The gateway answers, and requests wait: with spec.autoscaling a "
        "worker starts for them, with spec.replicas 0 none does.",
    ),
    "GatewayStarting": Explanation("No pod of the gateway answers yet."),
    "GatewayFailed": Explanation(
        "A gateway ends again and again; the message has its last lines.",
        "A Secret has a value that cannot be used, or operator and image are of two releases.",
        "Correct the Secret that the message names: `kubectl edit secret SECRET`. The gateway "
        "starts again by itself. `kubectl logs -l wan-operator.dev/service=NAME --prefix "
        "--tail=20` has more.",
    ),
    "WorkersStarting": Explanation("Workers load the model and warm up."),
    "WorkersNotReady": Explanation(
        "Some workers that were ready are not; the message has the cause.",
        "A pod or node was lost, or the store or database does not answer.",
        "`kubectl get pods -l wan-operator.dev/service=NAME -o wide` shows which. They start "
        "again by themselves once the cause is gone.",
    ),
    "WorkerFailed": Explanation(
        "A worker ends again and again; the message has its last lines.",
        "The store refuses the credentials, memory or disk are too small, the GPU fails, or "
        "`spec.acceleration.attention` names a kernel that its GPU or image does not have.",
        "Correct what the message names: a Secret with `kubectl edit secret SECRET`, "
        "`spec.workers.resources` or `spec.acceleration` with `kubectl edit wis/NAME`. `kubectl "
        "logs -l wan-operator.dev/service=NAME --prefix --tail=20` has more.",
    ),
    WAITING: Explanation(
        "No node has room for the workers that a rollout adds; the message says what is missing. "
        "The old workers serve, nothing was started, and the rollout begins once there is room.",
        "All GPUs, CPUs or memory are in use, or no node matches the workers' node selector and "
        "tolerations.",
        "Add a node or free one (`kubectl describe nodes`), use `spec.rollout.strategy: "
        "Recreate`, or set `spec.rollout.capacity: Assume` where a cluster adds nodes itself: "
        "`kubectl edit wis/NAME`.",
    ),
    "RollingOut": Explanation("Workers of a new revision replace the old ones."),
    "CanaryProving": Explanation("Some workers of a new revision get a share of the requests."),
    "CanaryGated": Explanation(
        "The canary did well, and waits until an evaluation passes its gate; the message has its "
        "state."
    ),
    "RolledBack": Explanation(
        "The new revision was rolled back and the old one serves; the message has the cause.",
        "New workers were not ready before `spec.rollout.deadlineSeconds`, could not use their "
        "model or an adapter, failed more often or were slower than the old ones, or the "
        "evaluation of `spec.rollout.gate` did not pass. An event alone: the spec was changed "
        "during the rollout, to what is not there yet or back to what serves.",
        "Mend what the message names and change the spec, which begins another rollout: `kubectl "
        "edit wis/NAME`.",
    ),
    EXCEEDED: Explanation(
        "A canary was good, and the workers that follow it make no progress: for "
        "`spec.rollout.deadlineSeconds` no further one was ready or reported which adapters it can "
        "use, and no old one went. Nothing is rolled back, and all workers that are ready serve; "
        "the message has the cause.",
        "No node has room for another worker, its pods do not start, or their reports do not come "
        "through the database.",
        "Mend what the message names, after which it goes on by itself, or take the change back: "
        "`kubectl edit wis/NAME`. `kubectl get pods -l wan-operator.dev/service=NAME` shows the "
        "pods.",
    ),
    "Scaled": Explanation("Autoscaling changed the number of workers."),
    "AdaptersLoaded": Explanation("Workers have fetched every adapter, and each fits the model."),
    "AdapterNotFound": Explanation(
        "A file of an adapter does not exist; the message has its address.",
        "`spec.adapters[].files` has a wrong address, or the file was moved or deleted.",
        "`mc cp FILE STORE/BUCKET/KEY` brings it there, and workers find it within ten minutes; "
        "or correct the address with `kubectl edit wis/NAME`, which is acted on at once.",
    ),
    "AdapterInvalid": Explanation(
        "A file of an adapter is no LoRA, or none for this model; the message has its address and "
        "the cause.",
        "The file is of another model or of a kind that is not served, or is damaged.",
        "Put a LoRA for this model at the address, or name another with `kubectl edit wis/NAME`. "
        "What is read is in [datasets](datasets.md#adapters).",
    ),
    "ImportingModel": Explanation(
        "The base model is being verified and converted, once for a store prefix."
    ),
    "ModelImported": Explanation("The manifest of the base model is committed."),
    "FineTunesDone": Explanation(
        "All fine-tunes that the service names have exported their weights."
    ),
    "WaitingForFineTune": Explanation(
        "A fine-tune that an adapter or the model names has not exported its weights yet.",
        "The run is still at work, or waits itself.",
        "`kubectl get wft FINETUNE` shows how far it is. The service goes on by itself.",
    ),
    "FineTuneNotFound": Explanation(
        "A WanFineTune of this name does not exist in the namespace.",
        "A name in `fineTuneRef` is misspelt, or the run is in another namespace or was deleted.",
        "`kubectl get wft` lists those of the namespace. Apply the run, or correct `fineTuneRef` "
        "with `kubectl edit wis/NAME`.",
    ),
    "FineTuneFailed": Explanation(
        "A fine-tune that an adapter or the model names has failed or is stalled.",
        "The message names the run.",
        "`kubectl describe wft FINETUNE` has the cause. Mend the run, with `kubectl replace "
        "--force -f FILE` if it has failed, or take it out of the service with `kubectl edit "
        "wis/NAME`.",
    ),
    "FineTuneUnsuitable": Explanation(
        "A fine-tune has another preset or method than the service needs; the message says which.",
        "An adapter names a run with `method.full`, the model one with `method.lora`, or the "
        "presets differ.",
        "Name a run that fits, or correct `spec.model.preset`, with `kubectl edit wis/NAME`.",
    ),
    "WaitingForEvaluation": Explanation(
        "An evaluation that an adapter or the model names is not complete yet.",
        "The run is still at work, or waits itself, maybe for its raters.",
        "`kubectl get wev EVALUATION` shows how far it is. The service goes on by itself.",
    ),
    "EvaluationNotFound": Explanation(
        "A WanEvaluation of this name does not exist in the namespace.",
        "A name in `fromEvaluation` is misspelt, or the run is in another namespace or was "
        "deleted.",
        "`kubectl get wev` lists those of the namespace. Apply the run, or correct "
        "`fromEvaluation` with `kubectl edit wis/NAME`.",
    ),
    "EvaluationFailed": Explanation(
        "An evaluation that an adapter or the model names has failed or is stalled.",
        "The message names the run.",
        "`kubectl describe wev EVALUATION` has the cause. Mend the run, or take it out of the "
        "service with `kubectl edit wis/NAME`.",
    ),
    "EvaluationUnsuitable": Explanation(
        "An evaluation has no winner, or one that the service cannot serve in this place; the "
        "message has what would be right.",
        "The evaluation ended without a winner, or the winner has another preset or method.",
        "Change what the message names with `kubectl edit wis/NAME`; without a winner, name a "
        "candidate in `fromEvaluation.candidate`, as `status.cheapestGood` of the evaluation, or "
        "compare on more clips.",
    ),
    "DatabaseNotConfigured": Explanation(
        "Neither spec.database nor the operator's settings name the Secret with the database's "
        "URL.",
        "The chart was installed without `database.secretName`, and the service has no "
        "`spec.database`.",
        "`helm upgrade --reuse-values --set database.secretName=SECRET`, or `spec.database` with "
        "`kubectl edit wis/NAME`.",
    ),
    "StoreChanged": Explanation(
        "The endpoint, bucket or prefix of a store that has photos or videos of this service was "
        "changed. Nothing is acted on, what serves goes on with the store that it has, and the "
        "message names both.",
        "`spec.store` was edited, or the Helm values `store.*` of a service that leaves them out.",
        "Set it back with `kubectl edit wis/NAME`, or write the store that is in use, "
        "`status.effective.store`, into `spec.store`. For another store make another service, and "
        "delete this one once its videos are fetched.",
    ),
    "DoesNotFit": Explanation(
        "A video of the default size and length, or the largest that requests may ask for, needs "
        "more GPU memory than the GPU has, by the planner's estimate; the message has the numbers "
        "and the smallest changes that help. No worker was started; those of an earlier spec serve "
        "on as they are.",
        "Sizes, frames or the model are too large for the GPU type and number of a worker.",
        "Make one of the changes in the message with `kubectl edit wis/NAME`, or choose a larger "
        "GPU by `spec.workers.podTemplate.nodeSelector` or more with `spec.workers.gpus`.",
    ),
    "GatewayAPINotInstalled": Explanation(
        "The cluster does not have the Gateway API, which spec.gateway.httpRoute needs.",
        "The CRDs of the Gateway API are not installed.",
        "Install the Gateway API, or take `spec.gateway.httpRoute` out with `kubectl edit "
        "wis/NAME`. `kubectl get crd httproutes.gateway.networking.k8s.io` shows whether it is "
        "there.",
    ),
}
ADAPTER_REASONS = {"ModelNotFound": "AdapterNotFound", "ModelInvalid": "AdapterInvalid"}
"""What a worker's reason is called where an adapter is meant."""
_SHARED = (
    *pods.REASONS, "StoreNotConfigured", "SpecInvalid", "NameConflict", "RequestRefused",
    "StepStarting", "ModelNotFound", "ModelInvalid", "JobInvalid", "HostOutOfMemory",
    "StoreUnreachable", "StoreAccessDenied", "StoreNotFound", "StoreRegionWrong", "ArtifactCorrupt",
    "DiskFull", "Unexpected", "Terminated",
)  # fmt: skip

_OF_GATEWAYS = {reason.value: reason.explanation for reason in GatewayReason}

VOCABULARY = Vocabulary(
    TYPES, {**{name: OF_RUNS[name] for name in _SHARED}, **_OWN, **_OF_GATEWAYS}
)
