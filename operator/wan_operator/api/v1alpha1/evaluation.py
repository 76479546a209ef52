"""WanEvaluation: compare models on the same clips, by metrics and by people, and choose one.

What this release does not act on is refused with a message, never accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import list_map, list_set, syntax
from wan_operator.api.v1alpha1.common import GROUP, MAX_INT32, ApiModel, Store, rules
from wan_operator.api.v1alpha1.evaluation_candidate import (
    MAX_CANDIDATES,
    Candidate,
    CandidateName,
    CandidateSampling,
    Clips,
)
from wan_operator.api.v1alpha1.evaluation_rules import FIXED_RULES, PAGE, RULES
from wan_operator.api.v1alpha1.evaluation_status import WanEvaluationStatus
from wan_operator.api.v1alpha1.pods import PodTemplate, ResourceOverrides
from wan_operator.api.v1alpha1.runs import Retries
from wan_operator.api.v1alpha1.syntax import S3Uri
from wan_runtime.contract.evaluation import DecidingMetric, FloorRender
from wan_runtime.contract.metric_names import MetricName

__all__ = [
    "FIXED_RULES",
    "KIND",
    "LABEL",
    "NAME_LIMIT",
    "PAGE",
    "PLURAL",
    "SHORT_NAME",
    "Candidate",
    "Clips",
    "Decision",
    "Gate",
    "GateLimit",
    "Parallelism",
    "Ratings",
    "WanEvaluationSpec",
    "WanEvaluationStatus",
    "Weights",
]

KIND = "WanEvaluation"
PLURAL = "wanevaluations"
SHORT_NAME = "wev"
LABEL = f"{GROUP}/evaluation"
"""Label by which its children name it."""

NAME_LIMIT = 26
"""Longest name in characters: a Job is `<name>-<step>-<attempt>` and may have 63, of which a step
such as `generate-CANDIDATE-part8` takes 31."""

Weight = Annotated[float, Field(ge=0, le=1)]
RaterName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    syntax(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be lower-case letters, digits and '-'",
    ),
]


class Ratings(ApiModel):
    """Judgement by people, on a page that is served until all have rated or their time is over."""

    raters: Annotated[list[RaterName], list_set(), Field(min_length=1, max_length=100)]
    """Names of the raters, each of whom gets a link of his own."""
    mode: Literal["Scores", "Pairs"] = "Scores"
    """Question that raters answer. Scores: marks from 1 to 5 for dynamics, camera control, frame
    quality and accuracy. Pairs: which of two videos is better."""
    clips: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Largest number of clips that are rated. Default: all."""
    repeats: Annotated[int, Field(ge=0, le=20)] = 3
    """Number of videos that each rater judges twice, by which unsteady raters are found. Fewer than
    3 find none."""
    hidden_references: bool = True
    """Whether the recorded clips are judged too, under a blind name."""
    deadline_seconds: Annotated[int, Field(ge=60, le=MAX_INT32)] = 604800
    """Seconds after which the evaluation goes on with the ratings that there are. It can be changed
    while people rate."""
    simulated: bool = False
    """Whether marks are made up from the metrics at once, for demonstrations. The report says so.
    """


class Weights(ApiModel):
    """Weights of the total. Marks count as a share of 5, PSNR as one of 50 dB, SSIM as it is."""

    subjective: Weight = 0.5
    """Weight of the mean opinion score. Without ratings in the mode Scores it counts nothing."""
    psnr: Weight = 0.25
    """Weight of the metric psnr."""
    ssim: Weight = 0.25
    """Weight of the metric ssim."""


class Decision(ApiModel):
    """Choice of the winner."""

    metric: DecidingMetric | None = None
    """Number that decides: one of spec.metrics, `subjective` for the sum of the four marks that
    people give, or `total` for the weighted total. Default: subjective with ratings in the mode
    Scores, else total."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of confidence of all intervals."""
    minimum_clips: Annotated[int, Field(ge=2, le=1000)] = 8
    """Number of clips below which there is no winner."""
    weights: Weights = Weights()
    """Weights of the total."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Random seed of the resampling that intervals come from."""


class GateLimit(ApiModel):
    """Limit on one number of a candidate."""

    metric: DecidingMetric
    """One of spec.metrics, `subjective` or `total`."""
    value: Annotated[float, Field(ge=-1000, le=1000)]
    """The limit, in the unit of the metric. `subjective` is the sum of the four marks, from 4 to
    20; `total` is a share of 1."""


class Gate(ApiModel):
    """Conditions under which the condition GatePassed is true. It never is on missing data."""

    candidate: CandidateName | None = None
    """Candidate that has to pass. Default: the winner."""
    baseline: CandidateName | None = None
    """Candidate that it is compared with."""
    thresholds: Annotated[list[GateLimit], list_map("metric"), Field(max_length=16)] = Field(
        default=[]
    )
    """Means that have to be reached: the smallest where higher is better, the largest where lower
    is."""
    regressions: Annotated[list[GateLimit], list_map("metric"), Field(max_length=16)] = Field(
        default=[]
    )
    """Differences from the baseline by which the candidate may be worse, at the level of
    confidence."""


class Parallelism(ApiModel):
    """Number of pods that do one step together."""

    generate: Annotated[int, Field(ge=1, le=8)] = 1
    """Number of pods that render the videos of each candidate, on a GPU each. All candidates are
    rendered at the same time, as far as there are GPUs."""
    score: Annotated[int, Field(ge=1, le=8)] = 1
    """Number of pods that measure the videos."""


class WanEvaluationSpec(ApiModel):
    """A WanEvaluation compares candidates on the same clips with the same seeds: by metrics, and by
    people if it names raters. It chooses a winner where the evidence is enough.

    It becomes Jobs that collect the clips, render the videos of each candidate, measure them, serve
    the page for raters and write the report."""

    model_config = ConfigDict(json_schema_extra=rules(*RULES))

    candidates: Annotated[
        list[Candidate], list_map("name"), Field(min_length=1, max_length=MAX_CANDIDATES)
    ]
    """Candidates to compare."""
    clips: Clips
    """Clips that candidates are compared on: their first frames and prompts make the videos, and
    the recordings are what the videos are measured beside."""
    sampling: CandidateSampling = CandidateSampling()
    """Sampling settings of all candidates."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Random seed of the first clip's video; each further clip has the next one, alike for all
    candidates."""
    metrics: Annotated[list[MetricName], list_set(), Field(min_length=1, max_length=32)] = Field(
        default=[
            "psnr",
            "ssim",
            "ms_ssim",
            "motion_ratio",
            "camera_agreement",
            "first_frame_fidelity",
            "identity_drift",
            "colour_shift",
            "sharpness",
            "flicker",
            "warping_error",
        ]
    )
    """Metrics to measure. docs/evaluation.md has the definition of each."""
    metric_weights: S3Uri | None = None
    """S3 folder with the weights of metrics that need some, which no image holds.
    docs/evaluation.md has the folders and files of each. Default: these metrics have no number, and
    a reason."""
    score_on_gpu: bool = False
    """Whether each pod that measures has a GPU, on which metrics of networks are many times as
    fast. vbench_dynamic_degree of pictures above 512x512 needs it."""
    legacy_psnr: bool = False
    """Whether the report also has PSNR as 8-bit arithmetic that wraps around computes it, beside
    figures that were computed so. It means nothing, and decides nothing."""
    noise_floor: CandidateName | None = None
    """Candidate that is rendered again. Differences between candidates are judged beside how much
    these renders differ. Default: none is."""
    noise_floor_renders: (
        Annotated[list[FloorRender], list_set(), Field(min_length=1, max_length=2)] | None
    ) = None
    """Renders of the noise floor. OtherSeed: each clip with another seed. OtherKernels: each clip
    with the same seed by the other of the profiles Exact and Lossless, which rounds no worse, but
    elsewhere. Each takes the GPU time of the candidate once more. Default: OtherSeed."""
    ratings: Ratings | None = None
    """Judgement by people. Default: metrics alone."""
    decision: Decision = Decision()
    """Choice of the winner."""
    gate: Gate | None = None
    """Conditions under which the condition GatePassed is true, for which a rollout can wait.
    Default: there is no gate."""
    price_per_gpu_hour: Annotated[float, Field(ge=0, le=1000000)] | None = None
    """Price of a GPU-hour in any currency, for the cost of a video and of training. Default: costs
    are in GPU-hours."""
    parallelism: Parallelism = Parallelism()
    """Number of pods that do one step together."""
    store: Store | None = None
    """S3-compatible bucket that everything is written to. Fields left out come from the operator's
    settings; status.effective.store shows the values in use."""
    resources: ResourceOverrides = ResourceOverrides()
    """CPU, memory and scratch space of the steps that have a GPU. Default: the planner's
    estimate."""
    pod_template: PodTemplate = PodTemplate()
    """Settings of the pods of all steps, in addition to the operator's own."""
    suspend: bool = False
    """Whether the run is held. True stops the running steps and starts no other; false resumes the
    run."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Seconds after the start at which a run that is not complete fails. The time in suspension and
    the wait for fine-tunes do not count; that of the raters does. Default: no deadline."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    """Seconds after the end of the run at which its Jobs and pods are deleted. The WanEvaluation
    and its report stay. Default: Jobs and pods stay."""
    retries: Retries = Retries()
    """Number of retries of each step, by kind of failure. Wrong input is never retried."""
