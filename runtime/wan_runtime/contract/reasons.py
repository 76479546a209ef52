"""Why a step ended as it did: a closed list, and what each reason means to users."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


@dataclass(frozen=True, slots=True)
class Explanation:
    """Words for users about a reason, as the reference and the page on troubleshooting have them.

    Text is Markdown on one line. In commands NAME stands for the resource, and other words in
    capitals for what the message names."""

    meaning: str
    cause: str = ""
    """Usual causes. Empty, like the cure, where nothing has to be mended."""
    cure: str = ""
    """What to change, with the command."""


class Explained(StrEnum):
    """Words with explanations. The operator shows them as reasons of conditions and Events, with
    the explanations in its documentation."""

    _value_: str
    explanation: Explanation

    def __new__(cls, value: str, meaning: str, cause: str = "", cure: str = "") -> Self:
        made = str.__new__(cls, value)
        made._value_ = value
        made.explanation = Explanation(meaning, cause, cure)
        return made


class Reason(Explained):
    """The end of a step, in one word. Grouped by the `ExitClass` that they come with."""

    COMPLETED = "Completed", "The step, or the whole run, is complete."
    # INPUT
    DATASET_NOT_FOUND = (
        "DatasetNotFound",
        "The metadata file or the folder of the dataset does not exist.",
        "`spec.dataset.source` has another bucket or path than the clips, or they were not "
        "uploaded.",
        "Compare the address in the message with the bucket: `mc ls STORE/BUCKET/PATH/`. Upload "
        "with `wan-runtime dataset push FOLDER s3://BUCKET/PATH --endpoint URL`, and the run finds "
        "it within minutes; or correct `spec.dataset.source` with `kubectl apply -f FILE`, which "
        "is acted on at once.",
    )
    DATASET_EMPTY = (
        "DatasetEmpty",
        "The metadata file lists no clip, or too few remain to train and hold one recording out.",
        "The table is empty, most clips were rejected, or all are cut from one recording.",
        "See the verdicts with `wan-runtime dataset check FOLDER --preset PRESET --frames FRAMES "
        "--report report.html`, add clips and upload them: the run finds them within minutes, or "
        "at once after an edit.",
    )
    DATASET_INVALID = (
        "DatasetInvalid",
        "The metadata file cannot be read or lacks a column.",
        "The table has another encoding, separator or column names than `spec.dataset` says.",
        "The message has the file, line and column. Correct it, see that `wan-runtime dataset "
        "check FOLDER --preset PRESET --frames FRAMES` accepts it, and upload it: the run finds it "
        "within minutes, or at once after an edit.",
    )
    CLIP_INVALID = (
        "ClipInvalid",
        "One or more clips fail a check; the message names the first ones, the manifest lists all.",
        "Clips are missing, do not decode, are too short or too small, or have no caption.",
        "Mend the clips and upload them: the run checks them again after a while. Or leave them "
        "out with `spec.dataset.rejectedClips: Skip` and `kubectl apply -f FILE`, which is acted "
        "on at once. `report.html` beside the manifest shows every verdict.",
    )
    MODEL_NOT_FOUND = (
        "ModelNotFound",
        "The model source does not hold the files that the preset needs, initFrom names nothing, "
        "or a metric that decides an evaluation has no weights.",
        "`spec.model.source`, `initFrom` or `metricWeights` has a wrong address, or the upload is "
        "not complete.",
        "Compare the address in the message with the bucket: `mc ls --recursive "
        "STORE/BUCKET/PATH`. Upload the folder as released, and it is found within minutes; or "
        "correct the address with `kubectl apply -f FILE`, which is acted on at once.",
    )
    METRIC_UNAVAILABLE = (
        "MetricUnavailable",
        "A metric that decides, or is a limit of the gate, would have no number of the clips; the "
        "message has the metric and what it needs.",
        "The pictures are too small for it, or too large to be measured without a GPU, or the "
        "clips are too short.",
        "Change `spec.sampling`, set `spec.scoreOnGpu`, or take another metric in `spec.decision` "
        "and `spec.gate`, with `kubectl apply -f FILE`, which is acted on at once. No GPU has "
        "worked for the run.",
    )
    MODEL_INVALID = (
        "ModelInvalid",
        "The files of the model source or of initFrom are not weights of this preset, or their "
        "digest differs.",
        "`spec.model.preset` and the folder are of different models, a file is damaged, or it was "
        "replaced after it had been verified.",
        "The message names the files. Upload them again, and they are checked again within "
        "minutes; or correct the preset or the address with `kubectl apply -f FILE`, which is "
        "acted on at once. A fine-tune that has failed later needs `kubectl replace --force -f "
        "FILE`.",
    )
    JOB_INVALID = (
        "JobInvalid",
        "The runtime cannot read its job file or its environment.",
        "The images of operator and runtime are of different releases, or a mounted Secret has a "
        "value that cannot be used; the message says which.",
        "`helm get values --all --namespace wan-system wan-operator` shows `image` and "
        "`runtime.image`: give both the same release with `helm upgrade`. Correct a Secret with "
        "`kubectl edit secret SECRET`.",
    )
    LORA_TARGET_UNKNOWN = (
        "LoraTargetUnknown",
        "An entry of targetModules matches no layer of the model.",
        "A name in `spec.method.lora.targetModules` is misspelt, or of another model.",
        "Take names from the message, such as `q`, `k`, `v`, `o`, `ffn.0`, `ffn.2`; then `kubectl "
        "replace --force -f FILE`.",
    )
    # OUT_OF_MEMORY
    GPU_OUT_OF_MEMORY = (
        "GPUOutOfMemory",
        "GPU memory ran out.",
        "Frames, size or batch are larger than the GPU can hold, or another process uses the GPU.",
        "`kubectl wan plan -f FILE` shows what needs how much. Fewer frames, a smaller size or "
        "`gradientCheckpointing: Full` or `Offload` need less, or choose a larger GPU by "
        "`spec.podTemplate.nodeSelector`; then `kubectl replace --force -f FILE`.",
    )
    HOST_OUT_OF_MEMORY = (
        "HostOutOfMemory",
        "The container reached its memory limit.",
        "`resources.memory` is smaller than the model and its data need.",
        "Raise `spec.resources.memory`; for a service, `spec.workers.resources.memory`: `kubectl "
        "edit KIND/NAME`. A fine-tune that has failed needs `kubectl replace --force -f FILE`.",
    )
    # INFRASTRUCTURE
    STORE_UNREACHABLE = (
        "StoreUnreachable",
        "The store does not answer.",
        "The endpoint is wrong, the store is down, a NetworkPolicy blocks its port, or its "
        "certificate is of an authority that is not in `store.caBundle`.",
        "The message has the endpoint and the error. What waits for the store goes on once it "
        "answers. Correct the operator's default with `helm upgrade --reuse-values --set "
        "store.endpoint=URL`, or `spec.store` with `kubectl edit KIND/NAME`.",
    )
    SERVICE_UNREACHABLE = (
        "ServiceUnreachable",
        "The service that renders the videos of a candidate does not answer.",
        "`candidates[].serviceRef.name` is no WanInferenceService of the namespace, its gateways "
        "do not run, or a NetworkPolicy keeps the pods apart.",
        "`kubectl get wis` shows the services and their states. The evaluation goes on once the "
        "service answers; correct a name with `kubectl apply -f FILE`.",
    )
    STORE_ACCESS_DENIED = (
        "StoreAccessDenied",
        "The store refused the credentials, or an action to their user; the message has the action "
        "and the store's words.",
        "The Secret has a wrong, expired or rotated key, or the key may not read, write and delete "
        "in the bucket.",
        "`kubectl create secret generic SECRET --from-literal=accessKey=… "
        "--from-literal=secretKey=… --dry-run=client -o yaml | kubectl apply -f -`, or give the "
        "key its rights in the store. Pods have the new values within two minutes.",
    )
    STORE_NOT_FOUND = (
        "StoreNotFound",
        "The bucket does not exist.",
        "The bucket's name is misspelt, or it was never made, or it is in another region.",
        "`mc mb STORE/BUCKET`, and what waits goes on by itself. Or correct the operator's "
        "default with `helm upgrade --reuse-values --set store.bucket=BUCKET`, or `spec.store` "
        "with `kubectl edit KIND/NAME`.",
    )
    STORE_REGION_WRONG = (
        "StoreRegionWrong",
        "The bucket is in another region than requests are signed for; the message has the right "
        "one.",
        "`spec.store.region` or the Helm value `store.region` is not the bucket's, or was left at "
        "its default.",
        "Correct the operator's default with `helm upgrade --reuse-values --set "
        "store.region=REGION`, or `spec.store` with `kubectl edit KIND/NAME`.",
    )
    ARTIFACT_CORRUPT = (
        "ArtifactCorrupt",
        "A stored object does not match the checksum in its manifest.",
        "Somebody wrote below the store's prefix, or the store lost data.",
        "Bring back the object that the message names, from a version or a backup, or delete the "
        "folder of its manifest, so that the step makes it anew: `mc rm --recursive --force "
        "STORE/BUCKET/FOLDER`.",
    )
    DISK_FULL = (
        "DiskFull",
        "The pod's scratch volume, the model cache or the store is too small; the message says "
        "which, and by how much.",
        "The base weights or the latents of the dataset need more space than was given.",
        "Raise `spec.resources.cache`; for a service, `spec.workers.resources.cache`: `kubectl "
        "edit KIND/NAME`. For the model cache, enlarge its volume or delete models from it.",
    )
    RANK_LOST = (
        "RankLost",
        "A process that trained together with others has lost one of them, or the connection to "
        "it.",
        "The process or its node died without a word, or a NetworkPolicy or a broken link is "
        "between the pods.",
        "It is tried again from the last checkpoint as far as `spec.retries` allows. `kubectl logs "
        "-l wan-operator.dev/step=STEP --prefix` shows which pod ended first. If it comes back, "
        "see that pods of one Job may reach each other at all ports.",
    )
    STEP_STUCK = (
        "StepStuck",
        "A step showed no sign of progress for an hour, or training made none for many times the "
        "length of one of its steps; the message names the processes that are stuck.",
        "A GPU, a link between GPUs or a volume is broken, or a driver hangs.",
        "The pod's log has the stacks of all its processes. It is tried again from the last "
        "checkpoint, on another node where one fits. If it comes back on one node, take it out: "
        "`kubectl cordon NODE`.",
    )
    UNEXPECTED = (
        "Unexpected",
        "An error without a reason of its own; the message has its last line, the log the rest.",
        "A defect of this software, of a library or of the hardware.",
        "`kubectl logs POD` has the whole error. It is tried again as far as `spec.retries` "
        "allows; report it with the log if it comes back.",
    )
    # STOPPED
    TERMINATED = (
        "Terminated",
        "The pod was stopped and saved a checkpoint. The step starts again and uses no retry.",
    )
    # NUMERICAL
    NON_FINITE_LOSS = (
        "NonFiniteLoss",
        "The loss, or a pixel of a rendered video, is infinite or not a number.",
        "Of a fine-tune: the learning rate is too high, or a clip or base weights hold numbers "
        "that are none. Of an evaluation: a candidate's weights do, or overflow as they are "
        "computed.",
        "Lower the learning rate of `spec.method`, or leave the candidate out or give it another "
        "`acceleration.profile`, and `kubectl replace --force -f FILE`.",
    )
    DIVERGED = (
        "Diverged",
        "The held-out loss rose to three times its lowest value; the message has both.",
        "The learning rate is too high, or the run repeats too few clips too often.",
        "Lower the learning rate or the number of epochs, or set `spec.training.weights: Best`, "
        "and `kubectl replace --force -f FILE`. `loss.png` in the run's folder shows when it "
        "began.",
    )
    DEAD_GRADIENTS = (
        "DeadGradients",
        "One or more trainable modules have no gradient after the first step; the message lists "
        "them.",
        "`targetModules` names layers that do not take part in this model, or `initFrom` has "
        "weights that cut them off.",
        "Leave the listed modules out of `spec.method.lora.targetModules`, or start from other "
        "weights, and `kubectl replace --force -f FILE`.",
    )


class GatewayReason(Explained):
    """Cause, in one word, why requests to a gateway would fail, beside those of the store."""

    DATABASE_UNREACHABLE = (
        "DatabaseUnreachable",
        "The database does not answer, or takes no changes; the message has its address and the "
        "error.",
        "The server is down or fails over, its address in the Secret is wrong, or a NetworkPolicy "
        "blocks its port.",
        "Requests go on once it answers; what was queued is kept. Correct the key `url` of the "
        "Secret: `kubectl edit secret SECRET`.",
    )
    DATABASE_REFUSED = (
        "DatabaseRefused",
        "The database answers and refuses the user, the database or a right; or the connection "
        "string is none. The message has the words.",
        "The password is wrong or was rotated, the database was not made or was removed, the user "
        "lacks a right, or a newer release has changed the tables.",
        "Correct the key `url` of the Secret with `kubectl edit secret SECRET`, or grant the user "
        "what the message names. Pods that wait begin by themselves: within seconds of a change in "
        "the database, within two minutes of one in the Secret.",
    )
    NO_API_KEY = (
        "NoAPIKey",
        "The Secret of `spec.gateway.keysSecretRef` has no key that a request can match, so that "
        "every request is refused.",
        "The Secret is empty, or its values are empty, have several lines or characters that no "
        "header can carry.",
        "`kubectl create secret generic SECRET --from-literal=NAME=$(openssl rand -hex 24) "
        "--dry-run=client -o yaml | kubectl apply -f -`. Gateways read it within two minutes.",
    )
    WEBHOOK_SECRET_INVALID = (
        "WebhookSecretInvalid",
        "The Secret of `spec.gateway.webhookSecretRef` has no secret that can sign webhooks, so "
        "that requests with a `webhook_url` are refused. All others are served.",
        "The key `secret` is empty, or begins with `whsec_` and is not copied whole.",
        "`kubectl create secret generic SECRET --from-literal=secret=whsec_$(openssl rand -base64 "
        "24) --dry-run=client -o yaml | kubectl apply -f -`. Gateways read it within two minutes, "
        "and send what waits.",
    )
    MODERATION_UNREACHABLE = (
        "ModerationUnreachable",
        "The server of `spec.moderation.url` does not answer, and nothing is made without it; the "
        "message has the address and the cause.",
        "The address is wrong, the server is down, or a NetworkPolicy blocks its port.",
        "Requests go on once it answers. Correct the address with `kubectl edit wis/NAME`; or, "
        "where videos without a verdict are right, set `spec.moderation.onError: Allow`.",
    )
    CHECK_FAILED = (
        "CheckFailed",
        "A gateway cannot check the store or the database, for a cause that it does not know.",
        "The message has the kind of the error; the gateway's log has the rest.",
        "`kubectl logs -l wan-operator.dev/service=NAME --prefix --tail=50`.",
    )


INPUT = frozenset(
    {
        Reason.DATASET_NOT_FOUND,
        Reason.DATASET_EMPTY,
        Reason.DATASET_INVALID,
        Reason.CLIP_INVALID,
        Reason.MODEL_NOT_FOUND,
        Reason.METRIC_UNAVAILABLE,
        Reason.MODEL_INVALID,
        Reason.JOB_INVALID,
        Reason.LORA_TARGET_UNKNOWN,
    }
)
"""Reasons that come with ExitClass.INPUT."""
NEEDS_SOMEBODY = frozenset(
    {
        Reason.STORE_ACCESS_DENIED,
        Reason.STORE_NOT_FOUND,
        Reason.STORE_REGION_WRONG,
        GatewayReason.DATABASE_REFUSED,
        GatewayReason.NO_API_KEY,
        GatewayReason.WEBHOOK_SECRET_INVALID,
    }
)
"""Reasons why requests fail that no waiting ends."""
OF_SECRETS = frozenset(
    {
        Reason.STORE_ACCESS_DENIED,
        GatewayReason.DATABASE_REFUSED,
        GatewayReason.NO_API_KEY,
        GatewayReason.WEBHOOK_SECRET_INVALID,
    }
)
"""Reasons why requests fail that a change of a mounted Secret may end."""
