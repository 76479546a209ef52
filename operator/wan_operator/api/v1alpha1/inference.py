"""WanInferenceService: serve a Wan image-to-video model through OpenAI's videos API.

What this release does not act on is refused with a message, never accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, list_map, rule
from wan_operator.api.v1alpha1.common import (
    MAX_INT32,
    ApiModel,
    LocalObjectReference,
    PodTemplate,
    Store,
    rules,
)
from wan_operator.api.v1alpha1.finetune import ResourceOverrides
from wan_operator.api.v1alpha1.finetune_dataset import Frames
from wan_operator.api.v1alpha1.finetune_model import Model
from wan_operator.api.v1alpha1.inference_gateway import Gateway
from wan_operator.api.v1alpha1.inference_model import (
    MAX_ADAPTERS,
    MAX_EFFECTS,
    Adapter,
    Effect,
    Sampling,
    VideoSize,
)
from wan_operator.api.v1alpha1.inference_status import (
    AdapterStatus,
    BaseModelStatus,
    EffectiveService,
    QueueStatus,
    RolloutStatus,
    StartupStatus,
    WanInferenceServiceStatus,
    WarmedSize,
)

__all__ = [
    "KIND",
    "NAME_LIMIT",
    "PLURAL",
    "SHORT_NAME",
    "Adapter",
    "AdapterStatus",
    "Autoscaling",
    "BaseModelStatus",
    "Canary",
    "Database",
    "Effect",
    "EffectiveService",
    "Gateway",
    "Limits",
    "Moderation",
    "QueueStatus",
    "Results",
    "Rollout",
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
NAME_LIMIT = 40
"""Characters: as of a WanFineTune, whose names stand beside it."""
MAX_REPLICAS = 1000
MAX_SECONDS = 7 * 86400

Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
ReplicaCount = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]


class ServedModel(Model):
    fine_tune_ref: LocalObjectReference | None = None
    """WanFineTune with method.full, of the same preset: its weights are served in place of the base
    model's transformers. Waited for while it trains."""


class Database(ApiModel):
    secret_ref: LocalObjectReference
    """Secret with the key `url`: postgresql://user:password@host/database.
    Services may share a database."""


class Workers(ApiModel):
    """Pods that render: one video at a time each, on one or several GPUs together."""

    gpus: Annotated[int, Field(ge=1, le=8), Cel("self in [1, 2, 4, 8]", "must be 1, 2, 4 or 8")] = 1
    """Of each worker. Several render one video faster, not several videos."""
    drain_seconds: Seconds | None = None
    """How long a worker that is told to stop may take to end its video before it hands it back to
    the queue. Default: what the planner expects of the longest video, at least 60."""
    resources: ResourceOverrides = ResourceOverrides()
    """Default: by the planner."""
    pod_template: PodTemplate = PodTemplate()
    """Of the workers' pods."""


class Autoscaling(ApiModel):
    """Workers by the seconds of work that wait, which are known before a video starts."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.minReplicas <= self.maxReplicas",
                "minReplicas must not be larger than maxReplicas",
                ".minReplicas",
            ),
        )
    )

    min_replicas: ReplicaCount = 0
    """0: no worker, and no GPU, while nothing is asked for. The gateway stays; requests wait for
    the first worker."""
    max_replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
    """At most."""
    target_wait_seconds: Seconds = 300
    """A request should have to wait no longer than this for its worker: more predicted seconds of
    work than workers can do in it call for another worker."""
    scale_down_delay_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS)] = 300
    """How long fewer workers must have been enough before one goes. A worker that is told to go
    ends its video first."""


class Canary(ApiModel):
    """How a new revision proves itself."""

    percent: Annotated[int, Field(ge=1, le=50)] = 10
    """Of the requests that it gets. The same Idempotency-Key always meets the same revision."""
    replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] = 1
    """Workers of the new revision, beside those of the old."""
    min_videos: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Videos that it must have made before it is judged."""
    max_failed_percent: Annotated[int, Field(ge=0, le=100)] = 5
    """Of its videos, by faults of ours; more than that rolls back."""
    max_slower_percent: Annotated[int, Field(ge=0, le=1000)] = 25
    """By the median seconds of a video, against the old revision; more than that rolls back."""


class Rollout(ApiModel):
    """What happens to running workers when a change of the spec, or of a followed fine-tune, makes
    another revision of them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.strategy == 'Canary' || !has(self.canary)",
                "canary is for the strategy Canary",
                ".canary",
                reason="FieldValueForbidden",
            ),
        )
    )

    strategy: Literal["Recreate", "Surge", "Canary"] = "Surge"
    """Recreate: the old workers end their videos and go first; needs no spare GPU. Surge: one new
    worker more, then one old one less. Canary: some new workers get a share of the requests and
    must prove themselves first."""
    canary: Canary | None = None
    """Default: 10 percent to one worker."""
    capacity: Literal["Require", "Assume"] = "Require"
    """Require: it begins once nodes have room for the workers that run beside the old ones; until
    then those serve on. Assume: it begins at once, for clusters that add nodes when pods wait, or
    where the workers' priority makes others give way."""
    deadline_seconds: Seconds = 1800
    """For the new workers to be ready, and to have made the videos that they are judged by; later
    than that the old revision comes back. Waiting for room does not count."""


class Limits(ApiModel):
    queue_seconds: Seconds = 3600
    """Predicted seconds of work that may wait; a request beyond them gets 429 with Retry-After."""
    frames: Frames = 121
    """Of a video, at most."""
    prompt_characters: Annotated[int, Field(ge=1, le=20_000)] = 2000
    """At most."""
    upload_mebibytes: Annotated[int, Field(ge=1, le=100)] = 20
    """Of an uploaded picture, at most."""
    image_megapixels: Annotated[int, Field(ge=1, le=200)] = 40
    """Of an uploaded picture, before it is cropped."""
    url_references: bool = False
    """Whether a request may name its first frame by a URL. Private addresses are never fetched."""
    queued_per_key: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Videos of one API key that may wait or run. Default: the queue's limit only."""
    requests_per_minute_per_key: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Videos asked for by one API key, counted by each gateway. Default: no limit."""


class Results(ApiModel):
    retention_hours: Annotated[int, Field(ge=1, le=24 * 3650)] = 168
    """After which a video and its record are deleted. Photos go with the end of the job."""
    presigned_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3600
    """Life of a link to a result."""
    delivery: Literal["Proxied", "Presigned"] = "Proxied"
    """Proxied: the gateway hands out the bytes. Presigned: it redirects to the store, which clients
    must reach."""


class Moderation(ApiModel):
    """An HTTP service that may refuse what goes in and what comes out."""

    url: Annotated[
        str,
        Field(max_length=2048),
        Cel("self.matches('^https?://[^ ]+$')", "must be an http(s) URL"),
    ]
    """POSTed {stage: Input or Output, id, model, prompt, images}; answers {allowed, reason}."""
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 10
    """After which `onError` holds."""
    on_error: Literal["Refuse", "Allow"] = "Refuse"
    """While it does not answer."""


class WanInferenceServiceSpec(ApiModel):
    """A Wan image-to-video model served through OpenAI's videos API, with a durable queue.

    Becomes a gateway and workers on GPUs; adapters may follow fine-tunes, and effects give app
    teams a name for a look."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.adapters) || self.model.preset.startsWith('Wan2.2') || "
                "self.adapters.all(each, !has(each.files) || has(each.files.uri))",
                "only Wan2.2 has experts: set files.uri",
                ".adapters",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.effects) || self.effects.all(effect, !has(effect.adapters) || "
                "effect.adapters.all(use, has(self.adapters) && "
                "self.adapters.exists(each, each.name == use.name)))",
                "an effect uses an adapter that spec.adapters does not list",
                ".effects",
            ),
            rule(
                "!has(self.effects) || !has(self.adapters) || self.effects.all(effect, "
                "!self.adapters.exists(each, each.name == effect.name))",
                "an effect and an adapter have the same name: both are names of models in the API",
                ".effects",
            ),
            # An autoscaler that writes replicas in vain would believe that it scales.
            rule(
                "!has(self.autoscaling) || !has(oldSelf.autoscaling) || "
                "self.replicas == oldSelf.replicas",
                "spec.autoscaling chooses the number of workers: replicas can be changed, by "
                "`kubectl scale` or a HorizontalPodAutoscaler too, once it is removed",
                ".replicas",
                reason="FieldValueForbidden",
            ),
        )
    )

    model: ServedModel
    """What is served."""
    adapters: Annotated[list[Adapter], list_map("name"), Field(max_length=MAX_ADAPTERS)] = Field(
        default=[]
    )
    """LoRAs that requests and effects may name. They are swapped between two videos."""
    effects: Annotated[list[Effect], list_map("name"), Field(max_length=MAX_EFFECTS)] = Field(
        default=[]
    )
    """Names for a look, each selectable as `model` in the API: a photo and the name make a video.
    """
    sizes: (
        Annotated[list[VideoSize], list_map("width", "height"), Field(min_length=1, max_length=16)]
        | None
    ) = None
    """Sizes that requests may ask for. Workers are ready once they are warm at all of them. The
    first is the default. Default: the preset's."""
    defaults: Sampling = Sampling()
    """Of requests that don't say. Default: the preset's."""
    limits: Limits = Limits()
    """What requests may ask for."""
    results: Results = Results()
    """The videos made."""
    moderation: Moderation | None = None
    """Default: nothing is refused for what it shows."""
    replicas: ReplicaCount = 1
    """Workers. Also the scale subresource's: a HorizontalPodAutoscaler may own it. Without meaning
    while `autoscaling` is set, and not to be changed then."""
    autoscaling: Autoscaling | None = None
    """Lets the operator choose the number of workers. Default: `replicas` holds."""
    rollout: Rollout = Rollout()
    """How workers are replaced by others."""
    gateway: Gateway
    """The HTTP API."""
    workers: Workers = Workers()
    """The pods on GPUs."""
    database: Database | None = None
    """Where the queue is kept. Default: the operator's settings."""
    store: Store | None = None
    """Where photos and videos are kept. Default: the operator's settings."""
    price_per_hour: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Of a worker, in any currency: estimates then tell what a video costs. Default: the GPU
    catalogue's price, if the type of GPU is known."""
