"""WanFineTune.status: written by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import list_map
from wan_operator.api.v1alpha1.common import (
    MAX_BUCKETS,
    MAX_EXACT,
    Amount,
    ApiModel,
    Artifact,
    Count,
    EffectiveStore,
    Sha256,
    Short,
)
from wan_operator.api.v1alpha1.runs import (
    CheckpointStatus,
    LastFailure,
    ProgressStatus,
    RunStatusFields,
    StepStatus,
)


class EffectivePlan(ApiModel):
    """Planner's estimate of memory, time and cost, from measurements. Left out for the Tiny
    presets."""

    gpu: Short = ""
    """GPU type that the plan is for, from the node selector or the operator's settings. Empty:
    unknown."""
    gpu_gib: Amount
    """GPU memory that training needs, in GiB."""
    gpu_error_percent: Count
    """Error bound of gpuGib in either direction, in percent."""
    seconds_per_step: Amount | None = None
    """Seconds per optimizer step. Left out if the GPU type is unknown."""
    steps: Count | None = None
    """Number of optimizer steps of one expert. Left out until the clips are counted."""
    hours: Amount | None = None
    """Hours of training and of rendering previews and samples. Left out while steps or the GPU type
    are unknown."""
    time_error_percent: Count | None = None
    """Error bound of secondsPerStep, hours and cost in either direction, in percent."""
    cost: Amount | None = None
    """Price of all GPUs for the hours of the plan, in the currency of the GPU catalogue."""
    confidence: Literal["Measured", "Extrapolated", "Estimated"]
    """Basis of the estimate. Measured: runs of this GPU, method and size were measured.
    Extrapolated: similar ones were. Estimated: none were."""


class EffectiveBucket(ApiModel):
    """Size and length that clips are cut to."""

    width: Count
    """Width in pixels."""
    height: Count
    """Height in pixels."""
    frames: Count
    """Length in frames."""


class EffectiveParallelism(ApiModel):
    """GPUs that train one transformer together, and how they share the work. Left out for one GPU
    alone."""

    nodes: Count
    """Number of nodes."""
    gpus_per_node: Count
    """Number of GPUs per node."""
    sequence: Count
    """Number of GPUs that split the tokens of one clip."""
    zero_stage: Count = 0
    """Stage of DeepSpeed's ZeRO. 0: DeepSpeed is not used."""
    offload: Short = "None"
    """State that ZeRO keeps in host memory: None, Optimizer or OptimizerAndParameters."""


class Effective(ApiModel):
    """Values in use, resolved from the spec, the operator's settings and the preset."""

    store: EffectiveStore
    """Store in use, from spec.store and the operator's settings."""
    fps: Count
    """Frames per second that clips are resampled to."""
    buckets: Annotated[list[EffectiveBucket], Field(max_length=MAX_BUCKETS)] = Field(default=[])
    """Sizes and lengths that clips are cut to, the largest first."""
    experts: Annotated[list[Short], Field(max_length=2)]
    """Transformers that are trained: HighNoise and LowNoise for Wan2.2, Only for Wan2.1."""
    formats: Annotated[list[Short], Field(max_length=3)] = Field(default=[])
    """Formats of the exported weights."""
    gpus: Count
    """Number of GPUs that train at the same time: those of one training step, or of both experts.
    """
    image: Annotated[str, Field(max_length=512)]
    """Container image of the pods of all steps."""
    run_prefix: Annotated[str, Field(max_length=1024)]
    """S3 address of the folder that this run writes to."""
    gradient_checkpointing: Short = "Full"
    """Gradient checkpointing in use: None, Full, KeepAttention or Offload. For Auto it is the
    operator's choice."""
    checkpoint_every_steps: Count = 100
    """Optimizer steps between checkpoints."""
    parallelism: EffectiveParallelism | None = None
    plan: EffectivePlan | None = None


class FormatStatus(ApiModel):
    """Certificate of one format: the weights were read back and match the trained ones."""

    name: Annotated[str, Field(max_length=32)]
    """Name of the format, one of spec.output.formats."""
    consumer: Annotated[str, Field(max_length=128)]
    """Software that read the weights back, with its version."""
    worst_difference: Annotated[str, Field(max_length=32)]
    """Largest relative difference between a layer's weights as read back and as trained, such as
    `2.1e-08`. For an adapter it compares weight deltas."""


class WanFineTuneStatus(RunStatusFields):
    spec_sha256: Sha256 | None = None
    """SHA-256 checksum of the fields of the spec that are fixed once a GPU has worked for the run,
    as its steps were given them. An edit of one before starts the run over."""
    effective: Effective | None = None
    steps: Annotated[list[StepStatus], list_map("name"), Field(max_length=16)] = Field(default=[])
    """Steps of the run in the order in which they run. Two experts in parallel are listed one after
    the other."""
    progress: ProgressStatus | None = None
    artifact: Artifact | None = None
    """Exported weights, once they are committed."""
    formats: Annotated[list[FormatStatus], list_map("name"), Field(max_length=3)] = Field(
        default=[]
    )
    """Formats of the artifact, each with the result of reading it back."""
    checkpoint: CheckpointStatus | None = None
    """Newest checkpoint of all training steps that are not done. Each step also has its own under
    steps."""
    checkpoint_deletion_time: datetime | None = None
    """Time after which the checkpoints of a failed run are deleted: checkpoint.retentionHours after
    its end, or after the last edit since. Left out where there are none."""
    lost_gpu_seconds: Annotated[int, Field(ge=0, le=MAX_EXACT)] = 0
    """GPU seconds lost so far: the time that lost attempts of train and sample had run since their
    last checkpoint, times their GPUs."""
    last_failure: LastFailure | None = None
