"""WanInferenceService: serve a Wan image-to-video model through OpenAI's videos API.

What this release does not act on is refused with a message, never accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import list_map, rule, syntax
from wan_operator.api.v1alpha1.common import (
    GROUP,
    MAX_INT32,
    ApiModel,
    LocalObjectReference,
    Store,
    rules,
)
from wan_operator.api.v1alpha1.inference_acceleration import ACCELERATION_RULES, Acceleration
from wan_operator.api.v1alpha1.inference_gateway import Gateway
from wan_operator.api.v1alpha1.inference_model import (
    MAX_ADAPTERS,
    MAX_EFFECTS,
    Adapter,
    Effect,
    FromEvaluation,
    Sampling,
)
from wan_operator.api.v1alpha1.inference_rules import ADAPTER_RULES, PARALLEL_RULES, SAMPLING_RULES
from wan_operator.api.v1alpha1.inference_status import (
    AdapterStatus,
    BaseModelStatus,
    EffectiveDistance,
    EffectiveService,
    QueueStatus,
    ReportedFiles,
    RolloutProgress,
    RolloutStatus,
    StartupStatus,
    WanInferenceServiceStatus,
    WarmedSize,
)
from wan_operator.api.v1alpha1.inference_workers import (
    MAX_SECONDS,
    Parallelism,
    Seconds,
    Workers,
)
from wan_operator.api.v1alpha1.model import SOURCED, Frames, Model, VideoSize

__all__ = [
    "KIND",
    "LABEL",
    "NAME_LIMIT",
    "PLURAL",
    "SHORT_NAME",
    "Acceleration",
    "Adapter",
    "AdapterStatus",
    "Autoscaling",
    "BaseModelStatus",
    "Canary",
    "Database",
    "Effect",
    "EffectiveDistance",
    "EffectiveService",
    "FromEvaluation",
    "Gateway",
    "Limits",
    "Moderation",
    "Parallelism",
    "QueueStatus",
    "ReportedFiles",
    "Results",
    "Rollout",
    "RolloutGate",
    "RolloutProgress",
    "RolloutStatus",
    "Sampling",
    "ServedModel",
    "StartupStatus",
    "VideoSize",
    "WanInferenceServiceSpec",
    "WanInferenceServiceStatus",
    "WarmedSize",
    "Workers",
]

KIND = "WanInferenceService"
PLURAL = "waninferenceservices"
SHORT_NAME = "wis"
LABEL = f"{GROUP}/service"
"""Label by which its children name it."""
NAME_LIMIT = 40
"""Longest name in characters, the same as a WanFineTune's, whose names appear beside it."""
MAX_REPLICAS = 1000

ReplicaCount = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]


class ServedModel(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            SOURCED,
            rule(
                "!has(self.fineTuneRef) || !has(self.fromEvaluation)",
                "set at most one of fineTuneRef and fromEvaluation",
            ),
        )
    )

    fine_tune_ref: LocalObjectReference | None = None
    """WanFineTune with method.full and the same preset, whose weights are served in place of the
    base model's transformers. The service waits until they are exported."""
    from_evaluation: FromEvaluation | None = None
    """Candidate of a WanEvaluation with the same preset: a base model, or all weights of a
    fine-tune. The service waits until the evaluation is complete; if a later one of the same name
    finds another winner, that is rolled out."""


class Database(ApiModel):
    secret_ref: LocalObjectReference
    """Secret with the key `url`: postgresql://user:password@host/database. Services may share a
    database."""


class Autoscaling(ApiModel):
    """Settings by which the operator chooses the number of workers from the predicted seconds of
    work in the queue, which are known before a video starts."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.minReplicas <= self.maxReplicas",
                "minReplicas must not be larger than maxReplicas",
                ".minReplicas",
                computed="'minReplicas must not be larger than maxReplicas, %d; it is %d'"
                ".format([self.maxReplicas, self.minReplicas])",
            ),
        )
    )

    min_replicas: ReplicaCount = 0
    """Smallest number of workers. With 0, an idle service uses no GPU; its gateway stays, and a
    request waits until the first worker has started."""
    max_replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
    """Largest number of workers."""
    target_wait_seconds: Seconds = 300
    """Longest time in seconds that a request should wait for a worker. The number of workers is the
    predicted seconds of all work, divided by this and rounded up."""
    scale_down_delay_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS)] = 300
    """Seconds for which fewer workers must have been enough before workers are removed. A removed
    worker finishes its video first."""


class Canary(ApiModel):
    """Trial of a new revision with a share of the requests."""

    percent: Annotated[int, Field(ge=1, le=50)] = 10
    """Percentage of the requests that the new revision gets. Requests with the same Idempotency-Key
    always get the same revision."""
    replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] = 1
    """Number of workers of the new revision during the trial, beside those of the old one."""
    min_videos: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Number of videos that the new revision must have rendered since the rollout began before it
    is judged. Videos that were deleted, or ended more than results.retentionHours or a week ago, do
    not count."""
    max_failed_percent: Annotated[int, Field(ge=0, le=100)] = 5
    """Largest percentage of the new revision's videos that may fail, without those that were
    cancelled or had invalid input. A higher share rolls the revision back."""
    max_slower_percent: Annotated[int, Field(ge=0, le=1000)] = 25
    """Largest percentage by which the new revision's median seconds per video may exceed the old
    one's. A higher value rolls the revision back."""


class RolloutGate(ApiModel):
    """Evaluation that a new revision has to pass."""

    evaluation_ref: LocalObjectReference
    """WanEvaluation with a gate. The canary keeps its share of the requests until the condition
    GatePassed of the evaluation is True, and then replaces the old revision. It is rolled back if
    the condition is False, or if the evaluation ends without passing. The wait does not count
    against deadlineSeconds."""


class Rollout(ApiModel):
    """Replacement of running workers when a change of the spec, or of a fine-tune that it names,
    makes a new revision of them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.strategy == 'Canary' || !has(self.canary)",
                "canary applies to the strategy Canary only",
                ".canary",
                reason="FieldValueForbidden",
            ),
            rule(
                "self.strategy == 'Canary' || !has(self.gate)",
                "gate applies to the strategy Canary only",
                ".gate",
                reason="FieldValueForbidden",
            ),
        )
    )

    strategy: Literal["Recreate", "Surge", "Canary"] = "Surge"
    """Order in which workers are replaced. Recreate: the old workers finish their videos and stop
    before new ones start, which needs no spare GPU. Surge: one new worker starts before one old one
    stops. Canary: some new workers get a share of the requests first; if they do well, Surge
    follows."""
    canary: Canary | None = None
    """Trial of the new revision, for the strategy Canary. Default: 10 percent of the requests to
    one worker."""
    gate: RolloutGate | None = None
    """Evaluation that a new revision has to pass, for the strategy Canary. Default: none."""
    capacity: Literal["Require", "Assume"] = "Require"
    """Whether a rollout waits for room on nodes. Require: it begins once nodes have room for the
    workers that run beside the old ones, which serve until then. Assume: it begins at once, for
    clusters that add nodes when pods are pending or where the workers preempt other pods."""
    deadline_seconds: Seconds | None = None
    """Seconds within which a rollout must make progress: a further new worker is ready or reports
    on its adapters, a canary makes a further video, or an old worker goes. Without any for as long,
    the old revision is restored. Waiting for room on nodes, and for old workers that end their
    videos, does not count. After a canary was good nothing is restored: the service is Stalled with
    the reason ProgressDeadlineExceeded. Default: 1800, and 21600 in the phase Proving, in which a
    canary waits for requests too."""


class Limits(ApiModel):
    """Limits of requests and of the queue."""

    queue_seconds: Seconds = 3600
    """Most predicted work that may wait in the queue, in seconds of one worker. Further requests
    get 429 with Retry-After."""
    frames: Frames = 121
    """Longest video that a request may ask for, in frames of the form 4n+1."""
    prompt_characters: Annotated[int, Field(ge=1, le=20_000)] = 2000
    """Longest prompt that a request may have, in characters."""
    upload_mebibytes: Annotated[int, Field(ge=1, le=100)] = 20
    """Largest picture that a request may upload, in MiB."""
    image_megapixels: Annotated[int, Field(ge=1, le=200)] = 40
    """Largest picture that a request may upload, in megapixels before cropping."""
    url_references: bool = False
    """Whether a request may name its first frame by a URL. Private addresses are never fetched."""
    queued_per_key: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Most videos of one API key that may wait or run at the same time. Default: no limit for one
    key."""
    requests_per_minute_per_key: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Most videos that one API key may request per minute. Each gateway pod counts for itself.
    Default: no limit."""


class Results(ApiModel):
    """Retention and delivery of the rendered videos."""

    retention_hours: Annotated[int, Field(ge=1, le=24 * 3650)] = 168
    """Hours after which a finished video and its record are deleted. Uploaded photos are deleted as
    soon as their video has ended."""
    presigned_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3600
    """Seconds for which a presigned link to a video is valid."""
    delivery: Literal["Proxied", "Presigned"] = "Proxied"
    """Route of a video to clients. Proxied: the gateway sends it. Presigned: the gateway redirects
    to the store, which clients must be able to reach."""


class Moderation(ApiModel):
    """HTTP service that may refuse prompts, photos and rendered videos."""

    url: Annotated[
        str,
        Field(max_length=2048),
        syntax("self.matches('^https?://[^ ]+$')", "must be an http(s) URL"),
    ]
    """URL of the service. It gets a POST of {stage: Input or Output, id, model, prompt, images} and
    answers {allowed, reason}."""
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 10
    """Seconds to wait for an answer before onError applies."""
    on_error: Literal["Refuse", "Allow"] = "Refuse"
    """Decision on requests and videos while the moderation service does not answer."""


class WanInferenceServiceSpec(ApiModel):
    """A WanInferenceService serves a Wan image-to-video model through OpenAI's videos API, with a
    durable queue.

    It becomes gateways and workers on GPUs. Adapters may come from fine-tunes, and effects give app
    teams named styles."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *ADAPTER_RULES,
            *ACCELERATION_RULES,
            *PARALLEL_RULES,
            *SAMPLING_RULES,
            # An autoscaler that writes replicas in vain would believe that it scales.
            rule(
                "!has(self.autoscaling) || !has(oldSelf.autoscaling) || "
                "self.replicas == oldSelf.replicas",
                "spec.autoscaling chooses the number of workers: remove it before replicas are "
                "changed, by `kubectl scale` or a HorizontalPodAutoscaler too",
                ".replicas",
                reason="FieldValueForbidden",
            ),
        )
    )

    model: ServedModel
    """Model to serve."""
    adapters: Annotated[list[Adapter], list_map("name"), Field(max_length=MAX_ADAPTERS)] = Field(
        default=[]
    )
    """LoRAs that requests and effects may name. Workers swap them between two videos."""
    effects: Annotated[list[Effect], list_map("name"), Field(max_length=MAX_EFFECTS)] = Field(
        default=[]
    )
    """Named styles, each selectable as `model` in the API: a photo and the name make a video."""
    acceleration: Acceleration = Acceleration()
    """Trade of speed for equal bits and quality."""
    sizes: (
        Annotated[list[VideoSize], list_map("width", "height"), Field(min_length=1, max_length=16)]
        | None
    ) = None
    """Video sizes that requests may ask for. A worker is ready once it has warmed up at all of
    them. The first is the default size unless defaults.size names another. Default: the preset's
    size."""
    defaults: Sampling = Sampling()
    """Sampling settings for requests that leave them out. Default: the preset's."""
    limits: Limits = Limits()
    """Limits of requests and of the queue."""
    results: Results = Results()
    """Retention and delivery of the rendered videos."""
    moderation: Moderation | None = None
    """HTTP service that may refuse prompts, photos and rendered videos. Default: no moderation."""
    replicas: ReplicaCount = 1
    """Number of workers. It is part of the scale subresource, so `kubectl scale` and a
    HorizontalPodAutoscaler can change it. While autoscaling is set it has no effect and cannot be
    changed."""
    autoscaling: Autoscaling | None = None
    """Settings by which the operator chooses the number of workers from the predicted seconds of
    work in the queue. Default: replicas sets the number."""
    rollout: Rollout = Rollout()
    """Replacement of running workers when a change of the spec, or of a fine-tune that it names,
    makes a new revision of them."""
    gateway: Gateway
    """HTTP API of the service, and how clients reach it."""
    workers: Workers = Workers()
    """Pods that render on GPUs, one video at a time each."""
    parallelism: Parallelism = Parallelism()
    """Division of a video among the GPUs of a worker."""
    database: Database | None = None
    """PostgreSQL database that holds the queue. Default: the Helm value database.secretName."""
    store: Store | None = None
    """S3-compatible bucket that holds photos and videos. Fields left out come from the operator's
    settings; status.effective.store shows the values in use. Once a worker was ready, the
    endpoint, bucket and prefix cannot be changed: photos and videos are there."""
    price_per_hour: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Price of one worker for an hour, in any currency. With it, estimates include the cost of a
    video. Default: the price of the worker's GPUs in the GPU catalogue, if their type is known."""
