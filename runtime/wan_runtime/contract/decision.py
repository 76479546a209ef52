"""The decision of an evaluation: who wins, by how much, how sure that is, and whether a gate
opens."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wan_runtime.contract.figures import (
    SUBJECTIVE,
    Estimate,
    Figures,
    MetricScore,
    NotNegative,
    Positive,
)
from wan_runtime.contract.opinions import Opinions, Preferences


class Component(Figures):
    metric: str
    weight: Positive
    divisor: Positive = 1.0
    """Value of the metric that counts as 1."""


class Scoring(Figures):
    """Weighted total: the sum of weight x value / divisor over the components.

    The default is that of the recipe that the four-way comparison comes from.
    """

    components: Annotated[tuple[Component, ...], Field(min_length=1)] = (
        Component(metric=SUBJECTIVE, weight=0.5, divisor=20),
        Component(metric="psnr", weight=0.25, divisor=50),
        Component(metric="ssim", weight=0.25),
    )
    marks: dict[str, float] = Field(default_factory=lambda: {"psnr": 32.0, "ssim": 0.85})
    """Metric -> value from which a mean counts as good."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [each.metric for each in self.components]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the scoring weighs {', '.join(twice)} twice")
        return self


class Gate(Figures):
    """Thresholds that a candidate must pass, most of them beside a baseline.

    A threshold is passed if the whole interval is on its good side, failed if the estimate is on
    the bad side, and undecided in between.
    """

    candidate: str | None = None
    """Name of the candidate that is judged. By default the winner by quality."""
    baseline: str | None = None
    """Name of the candidate that it is compared with."""
    maximum_regression: dict[str, NotNegative] = Field(default_factory=dict)
    """Metric or `total` -> how much worse than the baseline its mean may be."""
    minimum: dict[str, float] = Field(default_factory=dict)
    """Metric or `total` -> worst mean that passes: the lowest, or the highest of a metric where
    less is better."""


class FailureCount(Figures):
    reason: str
    clips: int


class CandidateScore(Figures):
    candidate: str
    clips: int
    """Clips of the test set, failures included."""
    failures: tuple[FailureCount, ...]
    total: Estimate | None
    metrics: tuple[MetricScore, ...]


class Difference(Figures):
    """First minus second, over the clips that both have; positive is better for the first, whatever
    the direction of the metric."""

    metric: str
    first: str
    second: str
    estimate: Estimate | None
    """Simultaneous interval: the level is that of all pairs of the metric together."""
    rendered: Estimate | None
    """The same over the clips that both rendered, with an interval of its own: what failures hide.
    Null if none of the two failed."""
    common: int
    """Clips that both rendered."""
    won: int
    """Clips on which the first is better by this metric."""
    tied: int
    lost: int
    win_rate: Estimate | None
    floors: float | None
    """Size of the difference in multiples of the noise floor; null without a floor, or with one of
    zero."""
    better: str | None
    """Candidate that is better: the interval excludes zero and the difference is beyond the
    floor."""
    alone: Estimate | None
    """The same with the interval of this pair alone."""
    better_alone: str | None
    """Candidate that is better by that interval. The winner is the one that is so beside each other
    candidate."""


class Floor(Figures):
    """Noise floor of a metric: the difference between the means of two renders of one candidate."""

    metric: str
    value: float
    clips: int
    """Pairs of renders of one clip that it comes from."""
    renders: tuple[str, ...]
    """Names of the repeated renders: another seed, other kernels or hardware."""
    by_render: dict[str, float] = Field(default_factory=dict)
    """Floor of each kind of repeated render, of which `value` is the largest."""


InconclusiveReason = Literal[
    "OneCandidate",
    "NoClips",
    "NoCommonClips",
    "FewClips",
    "MissingMetric",
    "MissingCost",
    "OneRater",
    "OtherClips",
    "NoRatio",
    "Failures",
    "WithinFloor",
    "IntervalTooWide",
    "Identical",
]


class Doubt(Figures):
    reason: InconclusiveReason
    message: str


class Verdict(Figures):
    outcome: Literal["Winner", "Tie", "Inconclusive"]
    winner: str | None
    leaders: tuple[str, ...]
    """The best candidate and those that are not separated from it."""
    doubts: tuple[Doubt, ...]
    """Why there is no winner."""


class CandidateCost(Figures):
    candidate: str
    cost: float | None
    """Training and so many clips, in the unit of the table; null if it is not known."""
    quality: float | None
    ratio: float | None
    """Quality divided by cost."""
    on_front: bool
    """Whether no other candidate is at least as good for at most the cost."""


class CostTable(Figures):
    unit: Literal["Price", "GpuHours"] | None
    """Null if the cost of no unit is known for all candidates."""
    clips: int
    """Clips that training is shared by."""
    with_training: bool = True
    """Whether training is part of the costs. It is not if that of a candidate is unknown, as of one
    that a service renders."""
    candidates: tuple[CandidateCost, ...]


class Check(Figures):
    threshold: str
    """Field of the gate, with the metric in brackets where it has one."""
    limit: float
    estimate: Estimate | None
    passed: bool | None
    message: str


class GateVerdict(Figures):
    """True only if each threshold is passed; null if none failed but one is undecided."""

    candidate: str | None
    baseline: str | None
    passed: bool | None
    checks: tuple[Check, ...]
    message: str


class Decision(Figures):
    """All that the report draws and that the status quotes."""

    candidates: tuple[CandidateScore, ...]
    differences: tuple[Difference, ...]
    """Those of the total first, then those of each metric."""
    floors: tuple[Floor, ...]
    quality: Verdict
    costs: CostTable
    quality_per_cost: Verdict
    opinions: Opinions | None
    """Null without ratings."""
    preferences: Preferences | None
    """Null without choices."""
    gate: GateVerdict | None
    """Null without a gate."""
    level: float
    resamples: int
    seed: int
    scoring: Scoring
    raters_left_out: tuple[str, ...] = ()
