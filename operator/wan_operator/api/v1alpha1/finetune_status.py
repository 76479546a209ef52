"""WanFineTune.status: written by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import list_map
from wan_operator.api.v1alpha1.common import ApiModel, Artifact, Condition


class EffectiveStore(ApiModel):
    endpoint: str
    """http(s)://host[:port] of the S3 API."""
    bucket: str
    """Name of the bucket."""
    prefix: str
    """Everything is written below it."""
    region: str
    """S3 region."""
    secret_name: str
    """Secret that the pods mount."""


class Effective(ApiModel):
    """What the operator resolved: settings, preset defaults, derived values."""

    store: EffectiveStore
    """From spec.store and the operator's settings."""
    frames: int
    """Frames a clip."""
    fps: int
    """Frames a second."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    experts: Annotated[list[str], Field(max_length=2)]
    """`Only` for Wan2.1."""
    gpus: int
    """GPUs of the training step."""
    image: Annotated[str, Field(max_length=512)]
    """Of the pods of all steps."""
    run_prefix: Annotated[str, Field(max_length=1024)]
    """s3:// address below which this run writes."""


class LastFailure(ApiModel):
    """The latest failed attempt, kept after the step recovers."""

    step: str
    """Name of the step."""
    attempt: int
    """Counted from 1."""
    exit_code: int | None = None
    """Of the container, if it ran."""
    reason: str
    """From the list in the API reference."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """What the step or the cluster said."""
    pod: str = ""
    """Its pod."""
    node: str = ""
    """The node of the pod."""
    time: datetime
    """When it was seen."""


class StepStatus(ApiModel):
    name: Annotated[str, Field(max_length=32)]
    """`prepare`, `encode`, `train` (or `train-high-noise`, `train-low-noise`), `export`,
    `sample`."""
    state: Literal["Waiting", "Running", "Complete", "Failed"]
    """Where the step is."""
    attempts: int = 0
    """Jobs created so far."""
    infrastructure_retries: int = 0
    """Spent of spec.retries.infrastructure."""
    out_of_memory_retries: int = 0
    """Spent of spec.retries.outOfMemory."""
    next_attempt_time: datetime | None = None
    """When a step in back-off starts again."""
    start_time: datetime | None = None
    """When the first attempt was created."""
    completion_time: datetime | None = None
    """When its result was seen."""
    artifact: Artifact | None = None
    summary: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=32)] = (
        Field(default={})
    )
    """Numbers that the step reported: clips, steps, probe losses."""


class ProgressStatus(ApiModel):
    """Of the running step; refreshed at most every 15 seconds."""

    step: str
    """Name of the step."""
    activity: str = ""
    """What it does, for people."""
    current: int = 0
    """Done, of total."""
    total: int = 0
    """0 while unknown."""
    unit: str = "steps"
    """What is counted."""
    display: str = ""
    """`train 40/200`, for the Progress column."""
    eta: str = ""
    """`4m10s`, for the ETA column."""
    loss: str = ""
    """Of the last training step."""
    time: datetime
    """When the pod said so."""


class WanFineTuneStatus(ApiModel):
    observed_generation: int | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], list_map("type"), Field(max_length=16)] = Field(
        default=[]
    )
    """The condition that says most about the state comes first."""
    start_time: datetime | None = None
    """When the operator first saw the run."""
    completion_time: datetime | None = None
    """When it became Complete or Failed."""
    suspended_seconds: int = 0
    """Time held by spec.suspend so far, not counted against the deadline."""
    suspended_since: datetime | None = None
    """Set while spec.suspend holds the run."""
    effective: Effective | None = None
    steps: Annotated[list[StepStatus], list_map("name"), Field(max_length=16)] = Field(default=[])
    """In the order they run."""
    progress: ProgressStatus | None = None
    artifact: Artifact | None = None
    """The exported weights, once they are committed."""
    last_failure: LastFailure | None = None
