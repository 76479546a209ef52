"""WanInferenceService.status: written by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import list_map
from wan_operator.api.v1alpha1.common import MAX_EXACT, ApiModel, Artifact, Condition
from wan_operator.api.v1alpha1.finetune_status import Amount, Count, EffectiveStore, Name, Short


class BaseModelStatus(ApiModel):
    """The import of a model from S3: verified, and converted where need be."""

    source: Annotated[str, Field(max_length=1024)]
    """s3:// address that it comes from."""
    artifact: Artifact | None = None
    """What the import committed."""
    attempts: Count = 0
    """Jobs created so far."""
    next_attempt_time: datetime | None = None
    """When an import that failed is tried again."""
    reason: Short = ""
    """Why the last attempt failed."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """What it said."""


class AdapterStatus(ApiModel):
    name: Short
    """One of spec.adapters."""
    artifact: Artifact | None = None
    """What is served of its fine-tune. None: it is waited for, or the adapter is of files."""
    ready_workers: Count = 0
    """Ready workers that have fetched and checked it."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """What is waited for."""


class WarmedSize(ApiModel):
    size: Short
    """1280x720."""
    seconds: Amount
    """Of GPU time for a video of the default length, measured at warm-up: the median worker's."""


class StartupStatus(ApiModel):
    """Of the worker that became ready last, in seconds."""

    scheduling: Amount | None = None
    """Until the pod had a node."""
    pulling: Amount | None = None
    """Until its container ran: volumes and images."""
    loading: Amount | None = None
    """Fetching and loading weights."""
    compiling: Amount | None = None
    """Compiling kernels."""
    warming: Amount | None = None
    """Rendering a short video of each size, and checking it."""


class QueueStatus(ApiModel):
    """As a gateway last told it."""

    queued: Count
    """Videos that wait."""
    running: Count
    """Videos being made."""
    predicted_seconds: Amount
    """Of the work that waits."""
    oldest_seconds: Amount
    """How long the oldest has waited."""
    time: datetime
    """When it said so."""


class RolloutStatus(ApiModel):
    phase: Literal["Waiting", "Starting", "Proving", "Promoting", "RolledBack"]
    """Waiting: nodes lack room for its workers, nothing was started. Starting: new workers are
    awaited. Proving: a canary gets its share. Promoting: it was good and replaces the old.
    RolledBack: the old revision serves; see message."""
    revision: Short
    """The new one."""
    start_time: datetime
    """When it began; while it waits, since when."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Numbers it is judged by, what it waits for, or why it was rolled back."""


class EffectiveService(ApiModel):
    """What the operator resolved: settings, preset defaults, derived values."""

    store: EffectiveStore
    """From spec.store and the operator's settings."""
    database_secret: Name
    """Secret that holds the database's URL."""
    sizes: Annotated[list[Short], Field(max_length=16)] = Field(default=[])
    """The first is the default."""
    frames: Count
    """Of a video, if its request does not say."""
    fps: Amount
    """Frames a second, if its request does not say."""
    steps: Count
    """Of denoising, if its request does not say."""
    guidance: Amount
    """If its request does not say."""
    gpu: Short = ""
    """Type of GPU planned for. Empty: unknown."""
    predicted_seconds: Amount | None = None
    """Of a video of the default size and length, by the planner."""
    peak_gib: Amount | None = None
    """GPU memory of that, by the planner."""
    drain_seconds: Count
    """That a worker may take to end its video."""
    gateway_image: Annotated[str, Field(max_length=512)]
    """Of the gateway's pods."""
    worker_image: Annotated[str, Field(max_length=512)]
    """Of the workers' pods."""


class WanInferenceServiceStatus(ApiModel):
    observed_generation: Annotated[int, Field(ge=0, le=MAX_EXACT)] | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], list_map("type"), Field(max_length=16)] = Field(
        default=[]
    )
    """The condition that says most about the state comes first."""
    url: Annotated[str, Field(max_length=512)] = ""
    """Of the API, for clients: public, or within the cluster."""
    replicas: Count = 0
    """Workers that exist, ready or not. Those of a canary are beside them."""
    ready_replicas: Count = 0
    """Of them, those that take videos: loaded, warm and checked."""
    desired_replicas: Count = 0
    """Workers wanted, by spec.replicas or by autoscaling."""
    ready_gateways: Count = 0
    """Pods of the gateway that answer."""
    selector: Annotated[str, Field(max_length=1024)] = ""
    """Of the workers' pods, for the scale subresource."""
    ready: Annotated[str, Field(max_length=32)] = ""
    """`1/2`, for the Ready column."""
    revision: Short = ""
    """Of the workers that serve: changes with whatever they load or run."""
    rollout: RolloutStatus | None = None
    """The last one, while it runs or if it was rolled back."""
    effective: EffectiveService | None = None
    adapters: Annotated[list[AdapterStatus], list_map("name"), Field(max_length=64)] = Field(
        default=[]
    )
    """Of spec.adapters."""
    sizes: Annotated[list[WarmedSize], list_map("size"), Field(max_length=16)] = Field(default=[])
    """What ready workers measured."""
    peak_gib: Amount | None = None
    """GPU memory, the largest that a worker has measured."""
    startup: StartupStatus | None = None
    queue: QueueStatus | None = None
    last_scale_time: datetime | None = None
    """When autoscaling last changed desiredReplicas."""
    enough_since: datetime | None = None
    """Since when fewer workers would have been enough."""
    base_model: BaseModelStatus | None = None
    """Only of a model from S3."""
    weights: Artifact | None = None
    """What model.fineTuneRef exported: served in place of the base model's transformers."""
