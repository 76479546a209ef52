"""What all kinds of runs have in spec and status: retries, steps, checkpoints, progress."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import list_map
from wan_operator.api.v1alpha1.common import (
    MAX_EXACT,
    MAX_INT32,
    ApiModel,
    Artifact,
    Condition,
    Count,
    Name,
    Sha256,
    Short,
    StepId,
)


class Retries(ApiModel):
    """Number of retries of each step, by kind of failure. Numerical failures, and wrong input that
    a GPU was held for, are never retried; a stop with a checkpoint uses no retry."""

    infrastructure: Annotated[int, Field(ge=0, le=100)] = 5
    """Retries of a step after a lost pod or node, an unreachable store or refused credentials, with
    a back-off of up to 5 minutes."""
    out_of_memory: Annotated[int, Field(ge=0, le=10)] = 0
    """Retries of a step after GPU or host memory ran out. The next attempt needs as much memory, so
    this helps only where other processes had taken it."""


class CheckpointStatus(ApiModel):
    """State that an interrupted training step resumes from."""

    name: StepId
    """Name of the training step. Each expert has one."""
    step: Count
    """Number of optimizer steps done."""
    uri: Annotated[str, Field(max_length=2048)]
    """S3 address of the checkpoint's manifest.json."""
    sha256: Sha256
    """SHA-256 checksum of the manifest."""
    time: datetime
    """Time at which the checkpoint was committed."""


class StepStatus(ApiModel):
    """State of one step."""

    name: StepId
    """Name of the step. Of a fine-tune: `prepare`, `import`, `encode` (preceded by `encode-part1`
    and so on if dataset.encodeParallelism is above 1), `train` (or `train-high-noise` and
    `train-low-noise`), `export` or `sample`. Of an evaluation: `collect`, `import-CANDIDATE`,
    `generate-CANDIDATE`, `score`, `rate` or `compare`; parts of one end with `-part1` and so on."""
    state: Literal["Waiting", "Running", "Complete", "Failed", "Stopped"]
    """State of the step. Stopped: another step failed for good while this one ran or waited for a
    retry."""
    reason: Short = ""
    """Cause for which the step waits for its next attempt: a word from the list in the API
    reference."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Cause of the end of the last attempt, and the start time of the next."""
    attempts: Count = 0
    """Number of Jobs created so far."""
    infrastructure_retries: Count = 0
    """Number of retries used of spec.retries.infrastructure."""
    out_of_memory_retries: Count = 0
    """Number of retries used of spec.retries.outOfMemory."""
    next_attempt_time: datetime | None = None
    """Time at which a step in back-off starts again."""
    start_time: datetime | None = None
    """Time at which the first attempt was created."""
    running_since: datetime | None = None
    """Time at which the container of the current attempt started."""
    completion_time: datetime | None = None
    """Time at which the operator noticed the end of the step."""
    artifact: Artifact | None = None
    """Files that the step committed to the store."""
    checkpoint: CheckpointStatus | None = None
    """Newest checkpoint of a training step that is not done."""
    summary: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=32)] = (
        Field(default={})
    )
    """Numbers that the step reported, such as clips, steps and probe losses."""


class ProgressStatus(ApiModel):
    """Progress of the running steps together. It is refreshed every 15 seconds by default."""

    step: StepId
    """Name of the running step; `train` for both experts at the same time."""
    activity: Annotated[str, Field(max_length=256)] = ""
    """Current activity, for people."""
    current: Count = 0
    """Number of units done, of total."""
    total: Count = 0
    """Number of units in all, or 0 while unknown."""
    unit: Short = "steps"
    """Unit of current and total: clips, steps, files, videos, ratings or MB."""
    display: Short = ""
    """Step with current and total for the Progress column of kubectl get, such as `train 40/200`.
    Empty while the run is suspended or stalled."""
    eta: Short = ""
    """Estimated time to the end of the activity for the ETA column of kubectl get, such as `4m10s`.
    """
    loss: Short = ""
    """Loss of the last training step, one number for each expert that runs."""
    waits_for: Annotated[str, Field(max_length=1024)] | None = None
    """Address of the store or service that gives no answer, and the cause. Left out while it
    answers."""
    waits_reason: Short | None = None
    """Reason for the wait: a word from the list in the API reference."""
    time: datetime
    """Time at which the progress was last refreshed."""


class LastFailure(ApiModel):
    """Latest failed attempt. It stays after the step recovers."""

    step: StepId
    """Name of the step that failed."""
    attempt: Count
    """Number of the attempt, counted from 1."""
    exit_code: Annotated[int, Field(ge=-MAX_INT32, le=MAX_INT32)] | None = None
    """Exit code of the container. Left out if it is not known."""
    reason: Short
    """Cause of the failure: a word from the list in the API reference."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Message of the step or of the cluster."""
    pod: Name = ""
    """Name of the pod of the attempt."""
    node: Name = ""
    """Name of the node that the pod ran on."""
    time: datetime
    """Time at which the operator noticed the failure."""


class RunStatusFields(ApiModel):
    """First fields of the status of all kinds of runs."""

    observed_generation: Annotated[int, Field(ge=-1, le=MAX_EXACT)] | None = None
    """Generation of the spec that this status describes; -1 until the operator has seen the
    resource."""
    conditions: Annotated[list[Condition], list_map("type"), Field(max_length=16)] = Field(
        default=[]
    )
    """Conditions of the run. The one that says most about its state comes first."""
    start_time: datetime | None = None
    """Time at which the operator first saw the run."""
    completion_time: datetime | None = None
    """Time at which the run became Complete or Failed."""
    suspended_seconds: Count = 0
    """Seconds for which spec.suspend has held the run so far. They do not count against the
    deadline."""
    suspended_since: datetime | None = None
    """Time since which spec.suspend holds the run. Left out while it does not."""
