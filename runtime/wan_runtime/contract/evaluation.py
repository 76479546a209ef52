"""The work of an evaluation: which candidates, on which clips, measured and decided how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wan_runtime.contract.base import Contract
from wan_runtime.contract.dataset import DatasetSpec
from wan_runtime.contract.metric_names import METRICS, MetricName
from wan_runtime.contract.sampling import (
    COMPUTED_SHARE,
    DEFAULT_PROFILE,
    DEFAULT_STEP_CACHE,
    AttentionKernel,
    Profile,
    SamplingSpec,
    StepCachePolicy,
    check_attention,
)
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.contract.stored import ManifestRef
from wan_runtime.contract.work import Work

if TYPE_CHECKING:
    from wan_runtime.contract.job import JobSpec

CANDIDATE_LIMIT = 16
"""Longest name of a candidate in characters: the names of its step and of its Jobs end with it."""
CandidateName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,14}[a-z0-9])?$")]
REFERENCE = "reference"
"""What ratings name the recorded clip, in the place of a candidate."""
WINNER = "winner"
"""What services name the candidate of the best quality, whichever that is."""
RATING_PORT = 8080
"""Port of the page on which people rate."""
Rater = Annotated[str, Field(min_length=1, max_length=100)]
Dimension = Literal["dynamics", "camera_control", "frame_quality", "accuracy"]
"""What people judge of a video, each from 1 to 5."""
FloorRender = Literal["OtherSeed", "OtherKernels"]
"""Repeated render of a candidate: with other seeds, or by the other of the profiles Exact and
Lossless, which rounds no worse but elsewhere."""
DEFAULT_FLOOR: tuple[FloorRender, ...] = ("OtherSeed",)
OTHER_KERNELS: dict[Profile, Profile] = {"Exact": "Lossless", "Lossless": "Exact"}
DecidingMetric = Literal[MetricName, "subjective", "total"]
"""Number that can decide: a metric, `figures.SUBJECTIVE` or `figures.TOTAL`."""


class AdapterFile(Contract):
    """LoRA files made elsewhere."""

    files: dict[Expert, str]
    """s3:// URIs by expert; `Only` for a file that is applied to all."""
    strength: float = 1.0


class ServiceAddress(Contract):
    """A running service, which renders through its own API."""

    url: str
    """http(s)://host[:port] of its gateway."""
    model: str
    """Name of the model or effect that requests give."""
    key_file: str | None = None
    """Mounted file with an API key. None: the service takes requests without one."""


class TrainingCost(Contract):
    """What the training of a candidate took, by the status of its fine-tune."""

    gpu_seconds: Annotated[float, Field(ge=0)]
    gpu: str = ""
    """Type of the GPUs, as the GPU catalogue names it. Empty: not known."""


class CandidateSpec(Contract):
    """One way to make a video from a first frame and a prompt.

    Rendered here from the base model of the job (`weights` or `adapter` on top, or neither), by a
    running service, or already there.
    """

    name: CandidateName
    preset: str | None = None
    """Model that it is rendered with. None: it is not rendered here."""
    weights: ManifestRef | None = None
    """What a fine-tune exported: a LoRA, or full weights."""
    adapter: AdapterFile | None = None
    service: ServiceAddress | None = None
    videos: str | None = None
    """s3:// URI of a folder with a video `<id of the clip>.mp4` for each clip."""
    profile: Profile | None = None
    """Arithmetic of the transformers. None: the service's default."""
    step_cache: StepCachePolicy | None = None
    """Rule by which Fast leaves out steps. None: the service's default."""
    attention: AttentionKernel | None = None
    """Kernel of the attention, but for renders with the profile Exact. None: the fastest that is
    right."""
    training: TrainingCost | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.preset, self.service, self.videos)
        if sum(each is not None for each in sources) != 1:
            raise ValueError(f"candidate {self.name} needs one of preset, service and videos")
        if self.preset is None and (self.weights is not None or self.adapter is not None):
            raise ValueError(f"candidate {self.name} has weights, but no preset to put them on")
        return self

    @model_validator(mode="after")
    def _attention_is_of_the_profile(self) -> Self:
        check_attention(self.attention, self.profile or DEFAULT_PROFILE)
        return self


class ClipsSpec(Contract):
    """The clips that candidates are compared on: exactly one of the two."""

    held_out: ManifestRef | None = None
    """Dataset that a fine-tune prepared: its held-out clips."""
    dataset: DatasetSpec | None = None
    """Dataset of its own: all its clips."""
    count: Annotated[int, Field(ge=1, le=1000)] = 16
    """Largest number of clips, one of each recording first."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.held_out is None) == (self.dataset is None):
            raise ValueError("exactly one of held_out and dataset says where the clips are")
        return self


class RatingSpec(Contract):
    """How people judge the videos."""

    raters: Annotated[tuple[Rater, ...], Field(min_length=1, max_length=100)]
    """Names of the raters, each of whom gets a link."""
    mode: Literal["Scores", "Pairs"] = "Scores"
    """Scores from 1 to 5 in four dimensions, or the better of two videos."""
    clips: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Largest number of clips that are rated. None: all."""
    repeats: Annotated[int, Field(ge=0, le=20)] = 3
    """Videos that each rater judges twice, to see how steady he is: from three on."""
    hidden_references: bool = True
    """Whether the recorded clips are judged too, under a blind name."""
    deadline_seconds: Annotated[int, Field(ge=60)] = 7 * 86400
    """After which the evaluation goes on with the ratings that there are."""
    simulated: bool = False
    """Whether scores are made up from the metrics at once, for demonstrations. The report says so.
    """

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if twice := _repeated(self.raters):
            raise ValueError(f"two raters have the name {twice}")
        return self


class WeightSpec(Contract):
    """The weighted total: each part is divided by its full mark first."""

    subjective: Annotated[float, Field(ge=0, le=1)] = 0.5
    psnr: Annotated[float, Field(ge=0, le=1)] = 0.25
    ssim: Annotated[float, Field(ge=0, le=1)] = 0.25


class DecisionSpec(Contract):
    """How the winner is chosen."""

    metric: DecidingMetric | None = None
    """What decides. None: the mean opinion score if people rate, else the total of what was
    measured."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of confidence of all intervals."""
    minimum_clips: Annotated[int, Field(ge=2)] = 8
    """With fewer clips that all candidates have, there is no winner."""
    weights: WeightSpec = WeightSpec()
    seed: int = 0
    """Seed of the resampling."""


class GateSpec(Contract):
    """What `candidate` must reach for the gate to pass. It never passes on missing data."""

    candidate: CandidateName | None = None
    """None: the winner."""
    baseline: CandidateName | None = None
    """What it is compared with. None: thresholds alone."""
    minimums: dict[str, float] = Field(default_factory=dict)
    """Metric -> the value that its mean must reach: the smallest where higher is better, the
    largest where lower is."""
    largest_regressions: dict[str, float] = Field(default_factory=dict)
    """Metric -> by how much it may be worse than the baseline's, at most, at the level of
    confidence."""


class EvaluationWork(Work):
    """Candidates, the clips that they are compared on, and how."""

    kind: Literal["Evaluation"] = "Evaluation"
    candidates: Annotated[tuple[CandidateSpec, ...], Field(min_length=1, max_length=16)]
    clips: ClipsSpec
    sampling: SamplingSpec = SamplingSpec()
    """What is None comes from the preset of each candidate; the size and the length, which all
    candidates share, from the clips."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the first clip's video; each further clip has the next one, alike for all candidates.
    """
    noise_floor: CandidateName | None = None
    """Candidate that is rendered again: differences between candidates are judged beside how much
    these renders differ. None: without."""
    noise_floor_renders: Annotated[tuple[FloorRender, ...], Field(min_length=1)] = DEFAULT_FLOOR
    """How it is rendered again."""
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)]
    metric_weights: str | None = None
    """s3:// URI of a folder with the weights of metrics that need some, each in the folder that its
    definition names. None: these metrics are skipped by name."""
    score_on_gpu: bool = False
    """Whether the pods that measure have a GPU."""
    legacy_psnr: bool = False
    """Whether PSNR is given too as 8-bit arithmetic that wraps around computes it, for comparison
    with figures that were computed so. It means nothing, and decides nothing."""
    clip_seconds: Annotated[float, Field(gt=0)] = 600
    """Time limit of the metrics of one video, after which it counts as failed."""
    ratings: RatingSpec | None = None
    """None: nobody is asked."""
    decision: DecisionSpec = DecisionSpec()
    gate: GateSpec | None = None
    price_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """In any currency. None: costs are given in GPU-hours."""

    steps: ClassVar[frozenset[Step]] = frozenset(
        {Step.COLLECT, Step.GENERATE, Step.SCORE, Step.RATE, Step.COMPARE}
    )

    @model_validator(mode="after")
    def _names_meet(self) -> Self:
        names = [each.name for each in self.candidates]
        if twice := _repeated(names):
            raise ValueError(f"two candidates have the name {twice}")
        if REFERENCE in names:
            raise ValueError(f"no candidate may be called {REFERENCE}: recorded clips are")
        if WINNER in names:
            raise ValueError(f"no candidate may be called {WINNER}: services name the best one so")
        gate = self.gate
        for name in (self.noise_floor, *((gate.candidate, gate.baseline) if gate else ())):
            if name is not None and name not in names:
                raise ValueError(f"there is no candidate {name}: there are {', '.join(names)}")
        return self

    def _again(self) -> dict[str, object]:
        if self.noise_floor_renders == DEFAULT_FLOOR:  # as it was before others could be named
            return {"again": True}
        return {"again": True, "noise_floor_renders": [*self.noise_floor_renders]}

    def naming(self, metric: str) -> list[str]:
        """Fields that name a metric without which there is no winner, or no gate passes."""
        gate = self.gate
        found = {
            "decision.metric": metric == self.decision.metric,
            "gate.thresholds": gate is not None and metric in gate.minimums,
            "gate.regressions": gate is not None and metric in gate.largest_regressions,
        }
        return [field for field, names in found.items() if names]

    @property
    def decisive(self) -> frozenset[str]:
        """Metrics without which there is no winner, or no gate passes."""
        return frozenset(name for name in METRICS if self.naming(name))

    def _checked(self) -> dict[str, object]:
        """What the first step checks of metrics that need weights, or that not all clips have, so
        that it checks again after an edit. Empty without such metrics."""
        found: dict[str, object] = {}
        wanted = sorted(name for name in self.metrics if METRICS[name].weights is not None)
        if self.metric_weights is not None and wanted:
            found["weights"] = {"folder": self.metric_weights, "metrics": wanted}
        mounted = {name for name, each in METRICS.items() if each.mounted is not None}
        limited = {name for name, each in METRICS.items() if each.limited}
        if decisive := sorted(self.decisive & (mounted | limited)):
            found["decisive"] = decisive
            if self.score_on_gpu:
                found["score_on_gpu"] = True
        return found

    def candidate(self, name: str) -> CandidateSpec:
        """Candidate of this name. Raises KeyError."""
        found = next((each for each in self.candidates if each.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def identity(self, job: JobSpec) -> dict[str, object]:
        match job.step:
            case Step.COLLECT:
                size = self.sampling.model_dump(mode="json", include={"size", "frames", "fps"})
                chosen = {"clips": self.clips.stated(), "size": size, "seed": self.seed}
                return {**chosen, **self._checked()}
            case Step.GENERATE:
                assert job.candidate is not None
                mine = self.candidate(job.candidate)
                again = self._again() if self.noise_floor == mine.name else {}
                part = {} if job.shard is None else {"shard": job.shard.stated()}
                settings = {"sampling": self.sampling.stated(), "seed": self.seed, **again, **part}
                model = {} if job.model is None else {"model": job.model.stated()}
                if mine.profile in COMPUTED_SHARE and mine.step_cache is None:
                    # The default of an earlier release made other videos.
                    mine = mine.model_copy(update={"step_cache": DEFAULT_STEP_CACHE})
                return {**model, "candidate": mine.stated("training"), **settings}
            case Step.SCORE:
                part = {} if job.shard is None else {"shard": job.shard.stated()}
                more: dict[str, object] = {"legacy": True} if self.legacy_psnr else {}
                if self.metric_weights is not None:
                    more["weights"] = self.metric_weights
                return {"metrics": self.metrics, "seconds": self.clip_seconds, **more, **part}
            case Step.RATE:
                # Its deadline may be moved while people rate.
                ratings = None if self.ratings is None else self.ratings.stated("deadline_seconds")
                return {"ratings": ratings}
            case Step.COMPARE:
                return {"evaluation": self.stated()}
            case _:
                raise ValueError(f"{job.step} is no step of an evaluation")


def _repeated(names: Sequence[str]) -> str:
    """Names that occur more than once, in a line."""
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))


def evaluation_of(job: JobSpec) -> EvaluationWork:
    """The work of a job whose step belongs to an evaluation. Raises TypeError for another kind."""
    if not isinstance(job.work, EvaluationWork):
        raise TypeError(f"the job of {job.step_id} is no evaluation's but of {job.work.kind}")
    return job.work
