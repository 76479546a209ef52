"""WanFineTune.status: written by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import list_map
from wan_operator.api.v1alpha1.common import (
    MAX_BUCKETS,
    MAX_EXACT,
    MAX_INT32,
    ApiModel,
    Artifact,
    Condition,
    Sha256,
)

Count = Annotated[int, Field(ge=0, le=MAX_INT32)]
StepId = Annotated[str, Field(max_length=32)]
Name = Annotated[str, Field(max_length=253)]
"""Of an object."""
Short = Annotated[str, Field(max_length=64)]
Amount = Annotated[float, Field(ge=0, le=MAX_EXACT)]


class EffectiveStore(ApiModel):
    endpoint: Annotated[str, Field(max_length=512)]
    """http(s)://host[:port] of the S3 API."""
    bucket: Short
    """Name of the bucket."""
    prefix: Annotated[str, Field(max_length=512)]
    """Everything is written below it."""
    region: Short
    """S3 region."""
    secret_name: Name
    """Secret that the pods mount."""


class EffectivePlan(ApiModel):
    """What the planner expects, from measurements. Left out for the Tiny presets."""

    gpu: Short = ""
    """Type of GPU planned for, from the node selector or the operator's settings. Empty: unknown.
    """
    gpu_gib: Amount
    """GPU memory that training needs, in GiB."""
    gpu_error_percent: Count
    """How far that may be off."""
    seconds_per_step: Amount | None = None
    """Of training; unknown for an unknown GPU."""
    steps: Count | None = None
    """Of one expert; unknown until the clips are counted."""
    hours: Amount | None = None
    """Of training and rendering previews and samples."""
    time_error_percent: Count | None = None
    """How far seconds, hours and cost may be off."""
    cost: Amount | None = None
    """Of all GPUs in those hours, in the currency of the GPU catalogue."""
    confidence: Literal["Measured", "Extrapolated", "Estimated"]
    """Whether rows of this GPU, method and size exist; near ones; or none."""


class EffectiveBucket(ApiModel):
    width: Count
    """Pixels."""
    height: Count
    """Pixels."""
    frames: Count
    """Frames a clip."""


class Effective(ApiModel):
    """What the operator resolved: settings, preset defaults, derived values."""

    store: EffectiveStore
    """From spec.store and the operator's settings."""
    fps: Count
    """Frames a second."""
    buckets: Annotated[list[EffectiveBucket], Field(max_length=MAX_BUCKETS)] = Field(default=[])
    """What clips are cut to, the largest first."""
    experts: Annotated[list[Short], Field(max_length=2)]
    """`Only` for Wan2.1."""
    formats: Annotated[list[Short], Field(max_length=3)] = Field(default=[])
    """Of the exported weights."""
    gpus: Count
    """GPUs that train at the same time: of one training step, or of both experts."""
    image: Annotated[str, Field(max_length=512)]
    """Of the pods of all steps."""
    run_prefix: Annotated[str, Field(max_length=1024)]
    """s3:// address below which this run writes."""
    gradient_checkpointing: Short = "Full"
    """None or Full: what Auto became."""
    checkpoint_every_steps: Count = 100
    """Optimizer steps between checkpoints."""
    plan: EffectivePlan | None = None


class LastFailure(ApiModel):
    """The latest failed attempt, kept after the step recovers."""

    step: StepId
    """Name of the step."""
    attempt: Count
    """Counted from 1."""
    exit_code: Annotated[int, Field(ge=-MAX_INT32, le=MAX_INT32)] | None = None
    """Of the container, if it ran."""
    reason: Short
    """From the list in the API reference."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """What the step or the cluster said."""
    pod: Name = ""
    """Its pod."""
    node: Name = ""
    """The node of the pod."""
    time: datetime
    """When it was seen."""


class CheckpointStatus(ApiModel):
    """What a training step goes on from if it is interrupted."""

    name: StepId
    """Of the training step: one for each expert."""
    step: Count
    """Optimizer steps done."""
    uri: Annotated[str, Field(max_length=2048)]
    """s3:// address of its manifest.json."""
    sha256: Sha256
    """Of the manifest."""
    time: datetime
    """When it was committed."""


class StepStatus(ApiModel):
    name: StepId
    """`prepare`, `import`, `encode` (with parts, `encode-part1` and so on before it), `train` (or
    `train-high-noise`, `train-low-noise`), `export`, `sample`."""
    state: Literal["Waiting", "Running", "Complete", "Failed", "Stopped"]
    """Where the step is. Stopped: it ran, or was to be tried again, when another failed for
    good."""
    reason: Short = ""
    """Why it waits for its next attempt; from the list in the API reference."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """What ended its last attempt, and when the next starts."""
    attempts: Count = 0
    """Jobs created so far."""
    infrastructure_retries: Count = 0
    """Spent of spec.retries.infrastructure."""
    out_of_memory_retries: Count = 0
    """Spent of spec.retries.outOfMemory."""
    next_attempt_time: datetime | None = None
    """When a step in back-off starts again."""
    start_time: datetime | None = None
    """When the first attempt was created."""
    running_since: datetime | None = None
    """When the container of the open attempt started."""
    completion_time: datetime | None = None
    """When its result was seen."""
    artifact: Artifact | None = None
    checkpoint: CheckpointStatus | None = None
    """Of a training step that is not done: the newest."""
    summary: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=32)] = (
        Field(default={})
    )
    """Numbers that the step reported: clips, steps, probe losses."""


class FormatStatus(ApiModel):
    """The weights in one format were reloaded, and are what was trained."""

    name: Annotated[str, Field(max_length=32)]
    """One of spec.output.formats."""
    consumer: Annotated[str, Field(max_length=128)]
    """What reloaded them, with its version."""
    worst_difference: Annotated[str, Field(max_length=32)]
    """Largest relative difference of a layer's weight delta: `2.1e-08`."""


class ProgressStatus(ApiModel):
    """Of the running steps, all together; refreshed at most every 15 seconds."""

    step: StepId
    """Name of the step; `train` for both experts at the same time."""
    activity: Annotated[str, Field(max_length=256)] = ""
    """What it does, for people."""
    current: Count = 0
    """Done, of total."""
    total: Count = 0
    """0 while unknown."""
    unit: Short = "steps"
    """What is counted."""
    display: Short = ""
    """`train 40/200`, for the Progress column."""
    eta: Short = ""
    """`4m10s`, for the ETA column."""
    loss: Short = ""
    """Of the last training step; one for each expert that runs."""
    time: datetime
    """When the pod said so."""


class WanFineTuneStatus(ApiModel):
    observed_generation: Annotated[int, Field(ge=0, le=MAX_EXACT)] | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], list_map("type"), Field(max_length=16)] = Field(
        default=[]
    )
    """The condition that says most about the state comes first."""
    start_time: datetime | None = None
    """When the operator first saw the run."""
    completion_time: datetime | None = None
    """When it became Complete or Failed."""
    suspended_seconds: Count = 0
    """Time held by spec.suspend so far, not counted against the deadline."""
    suspended_since: datetime | None = None
    """Set while spec.suspend holds the run."""
    effective: Effective | None = None
    steps: Annotated[list[StepStatus], list_map("name"), Field(max_length=16)] = Field(default=[])
    """In the order they run. Two experts in parallel stand one after the other."""
    progress: ProgressStatus | None = None
    artifact: Artifact | None = None
    """The exported weights, once they are committed."""
    formats: Annotated[list[FormatStatus], list_map("name"), Field(max_length=3)] = Field(
        default=[]
    )
    """The formats of the artifact, each with its certificate."""
    checkpoint: CheckpointStatus | None = None
    """The newest of all training steps that are not done; each has its own under steps."""
    lost_gpu_seconds: Annotated[int, Field(ge=0, le=MAX_EXACT)] = 0
    """Time that attempts of train and sample had run since their last checkpoint when they were
    lost, times their GPUs."""
    last_failure: LastFailure | None = None
