"""WanInferenceService.status: written by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import list_map
from wan_operator.api.v1alpha1.common import (
    MAX_EXACT,
    Amount,
    ApiModel,
    Artifact,
    Condition,
    Count,
    EffectiveStore,
    Name,
    Short,
)


class BaseModelStatus(ApiModel):
    """Import of the base model, which verifies it and converts it to safetensors where needed."""

    source: Annotated[str, Field(max_length=1024)]
    """S3 address that the model is imported from."""
    artifact: Artifact | None = None
    """Files that the import committed to the store."""
    attempts: Count = 0
    """Number of Jobs created so far."""
    next_attempt_time: datetime | None = None
    """Time at which a failed import is tried again."""
    reason: Short = ""
    """Cause of the missing model: a word from the list in the API reference. Empty once it is
    imported."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Message of the last failed attempt."""


class ReportedFiles(ApiModel):
    """Files of an adapter, as spec.adapters names them."""

    # No rule of the spec: what was stored before a rule came is told all the same.
    uri: Annotated[str, Field(max_length=1024)] | None = None
    """S3 address of the file for all experts."""
    high_noise: Annotated[str, Field(max_length=1024)] | None = None
    """S3 address of the file for the high-noise expert."""
    low_noise: Annotated[str, Field(max_length=1024)] | None = None
    """S3 address of the file for the low-noise expert."""


class AdapterStatus(ApiModel):
    """State of one adapter."""

    name: Short
    """Name of an adapter in spec.adapters."""
    artifact: Artifact | None = None
    """Exported weights of its fine-tune that are served, by the revision in status.revision. Left
    out while there are none, and for an adapter from files."""
    next_artifact: Artifact | None = None
    """Exported weights of its fine-tune that are not served yet: the change to them waits, is
    rolled out or was rolled back. While it is there, readyWorkers, reason and message are about
    it. Left out while what spec.adapters names is served."""
    files: ReportedFiles | None = None
    """Files that the reason is about. Left out while nothing is wrong, and for an adapter from a
    fine-tune."""
    ready_workers: Count = 0
    """Number of ready workers that have fetched and checked the adapter as spec.adapters names it.
    """
    reason: Short = ""
    """Reason why the adapter is not served, one of those of the condition AdaptersReady. Left out
    while nothing is wrong."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Explanation of the reason, with the address of the file; or what the adapter waits for, such
    as a fine-tune that is not done, or what of it the model has no place for."""


class WarmedSize(ApiModel):
    """Measurement of one size by the workers."""

    size: Short
    """Size of the video, such as 1280x720."""
    seconds: Amount
    """Seconds to render a video of the default length, measured at warm-up; the median of the ready
    workers."""


class StartupStatus(ApiModel):
    """Start-up of the newest ready worker, in seconds for each part."""

    scheduling: Amount | None = None
    """Seconds from the creation of the pod to the assignment of a node."""
    pulling: Amount | None = None
    """Seconds from the assignment of a node to the start of the container: volumes and images."""
    loading: Amount | None = None
    """Seconds for fetching and loading the weights."""
    compiling: Amount | None = None
    """Seconds for compiling kernels."""
    warming: Amount | None = None
    """Seconds for rendering a short video of each size and checking it."""


class QueueStatus(ApiModel):
    """State of the queue as a gateway last reported it."""

    queued: Count
    """Number of videos that wait."""
    running: Count
    """Number of videos that are being rendered."""
    predicted_seconds: Amount
    """Predicted work that waits, in seconds of one worker."""
    oldest_seconds: Amount
    """Seconds for which the oldest queued video has waited."""
    time: datetime
    """Time of the report."""


class RolloutProgress(ApiModel):
    """How far a rollout has come in its phase."""

    time: datetime
    """Time of the last progress: a further worker was ready or reported, the canary made a further
    video, an old worker went, or the phase began. rollout.deadlineSeconds counts from it."""
    ready_workers: Count = 0
    """Largest number of new workers that were ready at the same time."""
    reported_workers: Count = 0
    """Largest number of new workers that reported at the same time which adapters they can use."""
    canary_videos: Count = 0
    """Largest number of videos that the canary was judged by: those that it made since the rollout
    began."""
    old_workers: Count = 0
    """Smallest number of old workers that were yet to be replaced, those that end their videos
    among them. While a canary is tried out none is replaced, and it is 0."""


class RolloutStatus(ApiModel):
    """State of a rollout."""

    phase: Literal["Waiting", "Starting", "Proving", "Gated", "Promoting", "RolledBack"]
    """Phase of the rollout. Waiting: nodes lack room for its workers, and nothing was started.
    Starting: new workers are starting. Proving: a canary gets its share of the requests, while all
    of its workers are ready. Gated: the canary did well, keeps its share and waits for
    rollout.gate. Promoting: the canary did well, or no worker of the old revision works, and all
    workers are replaced.
    RolledBack: the old revision serves; message has the cause."""
    revision: Short
    """Name of the new revision."""
    start_time: datetime
    """Time at which the rollout began. In the phase Waiting: time since which it waits."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Numbers that the revision is judged by, what the rollout waits for, or why it was rolled
    back."""
    progress: RolloutProgress | None = None
    """Progress within the phase. Left out before the rollout began and after it was rolled back."""


class EffectiveDistance(ApiModel):
    """Distance of the videos of spec.acceleration from those of Lossless with the same seed: root
    mean square of the pixels' differences, in multiples of the floor, which is the distance between
    Exact and Lossless, two ways to round to bfloat16 that are equally near to float32. Measured on
    a Tiny model with 40 steps and guidance, not on the weights of this service. Left out for
    Lossless and for what was not measured."""

    kernels: Amount
    """Distance by the rounding of the profile's kernels alone, with every step computed. Measured
    in bfloat16 on one H200, with kernels of 8 bits in Balanced and Fast; a GPU without them has
    less."""
    skipped_steps: Amount | None = None
    """Distance by the steps alone that spec.acceleration.stepCache leaves out. Measured in float32
    on a CPU. Left out where every step is computed. Both causes at once have at most an
    eighth more than the kernels alone."""
    measured_on: Short
    """Preset of the Tiny model that was measured."""


class EffectiveService(ApiModel):
    """Values in use, resolved from the spec, the operator's settings and the preset. store,
    databaseSecret and gatewayImage are those of the spec as it is. All others are of the workers
    that serve, status.revision: a change shows here once its rollout is through. Before there are
    any workers, all are those of the spec."""

    store: EffectiveStore
    """Store in use, from spec.store and the operator's settings."""
    database_secret: Name
    """Name of the Secret with the database's URL."""
    sizes: Annotated[list[Short], Field(max_length=16)] = Field(default=[])
    """Video sizes that requests may ask for. The first is the default."""
    frames: Count
    """Default length of a video in frames."""
    fps: Amount
    """Default frames per second of a video."""
    steps: Count
    """Default number of denoising steps."""
    guidance: Amount
    """Default guidance scale."""
    parallelism: Short = ""
    """Division of a video among the GPUs of a worker, such as `Native: CFG 2 x Ulysses 2`: branches
    of guidance, and shares of the attention heads."""
    distance: EffectiveDistance | None = None
    gpu: Short = ""
    """GPU type that the plan is for. Empty: unknown."""
    predicted_seconds: Amount | None = None
    """Planner's estimate of the seconds for a video of the default size and length. Left out if the
    GPU type is unknown."""
    peak_gib: Amount | None = None
    """Planner's estimate of the GPU memory for a video of the default size and length, in GiB. Left
    out if the GPU type is unknown."""
    drain_seconds: Count
    """Seconds that a worker may take to finish its video when it is stopped."""
    gateway_image: Annotated[str, Field(max_length=512)]
    """Container image of the gateway's pods."""
    worker_image: Annotated[str, Field(max_length=512)]
    """Container image of the workers' pods."""


class WanInferenceServiceStatus(ApiModel):
    observed_generation: Annotated[int, Field(ge=-1, le=MAX_EXACT)] | None = None
    """Generation of the spec that this status describes; -1 until the operator has seen the
    resource."""
    conditions: Annotated[list[Condition], list_map("type"), Field(max_length=16)] = Field(
        default=[]
    )
    """Conditions of the service. The one that says most about its state comes first."""
    url: Annotated[str, Field(max_length=512)] = ""
    """URL of the API for clients: public, or within the cluster."""
    replicas: Count = 0
    """Number of workers, ready or not, without those of a canary."""
    ready_replicas: Count = 0
    """Number of workers that take videos: loaded, warmed up and checked."""
    desired_replicas: Count = 0
    """Number of workers wanted, by spec.replicas or by autoscaling."""
    ready_gateways: Count = 0
    """Number of gateway pods that are ready."""
    selector: Annotated[str, Field(max_length=1024)] = ""
    """Label selector of the workers' pods, for the scale subresource."""
    ready: Annotated[str, Field(max_length=32)] = ""
    """Ready and wanted workers for the Workers column of kubectl get, such as `1/2`."""
    revision: Short = ""
    """Revision of the workers that serve. It changes with anything that they load or run."""
    rollout: RolloutStatus | None = None
    """Latest rollout, while it runs or if it was rolled back."""
    effective: EffectiveService | None = None
    adapters: Annotated[list[AdapterStatus], list_map("name"), Field(max_length=64)] = Field(
        default=[]
    )
    """State of each adapter in spec.adapters."""
    sizes: Annotated[list[WarmedSize], list_map("size"), Field(max_length=16)] = Field(default=[])
    """Measurements of each size by the ready workers."""
    peak_gib: Amount | None = None
    """Largest GPU memory use that a worker has measured, in GiB."""
    startup: StartupStatus | None = None
    attention: Annotated[str, Field(max_length=256)] = ""
    """Attention kernels of the ready workers, such as `FlashAttention-3`. One that
    spec.acceleration.attention names is followed by `(named)`."""
    queue: QueueStatus | None = None
    last_scale_time: datetime | None = None
    """Time at which autoscaling last changed desiredReplicas."""
    enough_since: datetime | None = None
    """Time since which fewer workers would have been enough."""
    base_model: BaseModelStatus | None = None
    """Import of the base model, which verifies it and converts it to safetensors where needed. Left
    out unless the model is from S3."""
    weights: Artifact | None = None
    """Weights of the fine-tune in spec.model, served in place of the base model's transformers.
    They are those of the revision in status.revision: a change shows here once its rollout is
    through."""
    next_weights: Artifact | None = None
    """Weights of the fine-tune in spec.model that are not served yet: the change to them waits, is
    rolled out or was rolled back."""
