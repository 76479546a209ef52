"""WanEvaluation.status: written by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from wan_operator.api.markers import list_map
from wan_operator.api.v1alpha1.common import (
    MAX_EXACT,
    Amount,
    ApiModel,
    Artifact,
    Count,
    EffectiveStore,
    Name,
    Sha256,
    Short,
)
from wan_operator.api.v1alpha1.runs import LastFailure, ProgressStatus, RunStatusFields, StepStatus

MAX_STEPS = 192
Signed = Annotated[float, Field(ge=-MAX_EXACT, le=MAX_EXACT)]
Message = Annotated[str, Field(max_length=1024)]


class EffectiveCandidate(ApiModel):
    """Candidate as it is compared: what it was made from when the evaluation began."""

    name: Short
    """Name of the candidate."""
    preset: Short = ""
    """Base model. Empty: the candidate is not rendered here."""
    s3: Annotated[str, Field(max_length=1024)] = ""
    """S3 folder with the base weights, if they come from S3."""
    claim_name: Name = ""
    """PersistentVolumeClaim with the base weights, if they come from a volume."""
    claim_path: Annotated[str, Field(max_length=1024)] = ""
    """Folder in that volume."""
    fine_tune: Name = ""
    """WanFineTune that made its weights."""
    method: Short = ""
    """Method of that fine-tune: LoRA or Full."""
    weights: Artifact | None = None
    """Weights that the fine-tune had exported."""
    training_gpu_seconds: Amount | None = None
    """GPU-seconds from the start to the end of the fine-tune's steps encode and train. Left out if
    it was not trained here."""
    training_gpu: Short = ""
    """GPU type that it was trained on, as far as it is known."""
    gpu_gib: Amount | None = None
    """GPU memory that rendering needs, in GiB, as planned. Left out for the Tiny presets and where
    nothing is rendered."""
    seconds_per_video: Amount | None = None
    """Predicted GPU-seconds of a video. Left out also if the GPU type is unknown."""


class EffectiveEvaluation(ApiModel):
    """Values in use, resolved when the evaluation began."""

    store: EffectiveStore
    """Store in use, from spec.store and the operator's settings."""
    image: Annotated[str, Field(max_length=512)]
    """Container image of the pods of all steps."""
    run_prefix: Annotated[str, Field(max_length=1024)]
    """S3 address of the folder that this run writes to."""
    width: Count
    """Width of the videos in pixels: of the largest, if those of held-out clips differ."""
    height: Count
    """Height of the videos in pixels, likewise."""
    frames: Count
    """Length of the videos in frames, likewise."""
    fps: Count
    """Frames per second of all videos."""
    clips: Artifact | None = None
    """Dataset that the fine-tune in spec.clips had prepared. Left out for a dataset of its own."""
    candidates: Annotated[list[EffectiveCandidate], list_map("name"), Field(max_length=16)] = Field(
        default=[]
    )
    """Candidates as they are compared."""
    gpu: Short = ""
    """GPU type that videos are planned for, from the node selector or the operator's settings.
    Empty: unknown."""
    gpu_hours: Amount | None = None
    """Predicted GPU-hours of all videos and, with spec.scoreOnGpu, of the pods that measure them,
    without the networks of metrics. Left out if the GPU type is unknown, and where no pod has a GPU
    but for Tiny presets."""
    cost: Amount | None = None
    """Price of these GPU-hours, by spec.pricePerGpuHour or else in the currency of the GPU
    catalogue."""


class RatingsStatus(ApiModel):
    """Page for raters."""

    url: Annotated[str, Field(max_length=512)] = ""
    """Address of the page within the cluster, while it is open."""
    deadline: datetime | None = None
    """Time at which the evaluation goes on with the ratings that there are."""


class CandidateStatus(ApiModel):
    """Result of one candidate."""

    name: Short
    """Name of the candidate."""
    clips: Count
    """Number of clips that it has a video for."""
    failed: Count = 0
    """Number of clips without a video, or with one that could not be measured. They count as
    failures."""
    quality: Signed | None = None
    """Mean of the number that decides, in its unit: 4 to 20 if that is `subjective`. Left out if it
    has none."""
    low: Signed | None = None
    """Lower end of the interval of quality, at decision.level."""
    high: Signed | None = None
    """Upper end of the interval of quality."""
    opinion: Amount | None = None
    """Mean opinion score from 1 to 5, if people rated."""
    total: Signed | None = None
    """Weighted total from 0 to 1."""
    gpu_seconds: Amount | None = None
    """GPU-seconds of a video, as measured here or by a service. Left out if they are not known."""
    cost: Amount | None = None
    """Price of a video, by spec.pricePerGpuHour."""


class GateStatus(ApiModel):
    """Result of the gate; the condition GatePassed has the same."""

    candidate: Short = ""
    """Candidate that was checked. Empty: there is no winner to check."""
    passed: bool | None = None
    """Whether it reaches all limits. Left out while data is missing, which never passes."""
    message: Message = ""
    """The numbers."""


class WanEvaluationStatus(RunStatusFields):
    start_time: datetime | None = None
    """Time at which the first step was started."""
    comparing_since: datetime | None = None
    """Time at which the first candidate was at work. From then on the fields of the spec that shape
    the result are fixed."""
    spec_sha256: Sha256 | None = None
    """SHA-256 checksum of these fields, as the steps were given them. An edit of one before starts
    the run over."""
    effective: EffectiveEvaluation | None = None
    """Values in use, once all fine-tunes that the spec names are ready."""
    steps: Annotated[list[StepStatus], list_map("name"), Field(max_length=MAX_STEPS)] = Field(
        default=[]
    )
    """Steps of the run. Those that wait for no other run at the same time."""
    progress: ProgressStatus | None = None
    ratings: RatingsStatus | None = None
    decision: Short = ""
    """Winner, Tie or Inconclusive, once the candidates are compared."""
    message: Message = ""
    """Reasons of the decision, with the numbers."""
    metric: Short = ""
    """Number that decided."""
    winner: Short = ""
    """Candidate of the best quality. Empty for a tie, and where the evidence is not enough."""
    cheapest_good: Short = ""
    """Candidate of the lowest cost whose quality is not worse than the winner's beyond the noise.
    """
    candidates: Annotated[list[CandidateStatus], list_map("name"), Field(max_length=16)] = Field(
        default=[]
    )
    """Results of the candidates, the best first."""
    gate: GateStatus | None = None
    report: Artifact | None = None
    """Report as a page and as JSON, once it is committed."""
    report_uri: Annotated[str, Field(max_length=2048)] = ""
    """S3 address of the report's page."""
    last_failure: LastFailure | None = None

    # Its steps commit video by video: an attempt that is lost has no checkpoint, and loses little.

    @property
    def checkpoint(self) -> None:
        return None

    @property
    def lost_gpu_seconds(self) -> int:
        return 0
