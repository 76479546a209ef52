"""Evidence of an evaluation: what was measured of each clip, what people said, what it cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from wan_runtime.contract.figures import Figures, NotNegative
from wan_runtime.contract.metric_names import METRICS, Better, MetricName

REFERENCE = "reference"
"""Candidate name of the real clips that raters see among the others without knowing it."""
MISSING = "Missing"
"""Reason of a failure that no record states: the clip is of the test set, and nothing came."""

Level = Annotated[int, Field(ge=1, le=5)]


class Metric(Figures):
    name: str
    better: Better
    worst: float
    """Value that a failed clip counts with, such as 0 dB of PSNR."""


def metric(name: MetricName) -> Metric:
    """A metric of the product, by its definition."""
    definition = METRICS[name]
    return Metric(name=name, better=definition.better, worst=definition.worst)


class Score(Figures):
    candidate: str
    clip: str
    metric: str
    value: float
    render: str = ""
    """Empty for the render that is compared. Another name, such as a seed or a kind of kernels, is
    a repeated render and counts for the noise floor alone."""


class Failure(Figures):
    candidate: str
    clip: str
    reason: str
    metric: str | None = None
    """Metric that failed; null if there is no video at all."""


class Exclusion(Figures):
    """A metric that says nothing of a clip, whoever rendered it: motion beside a recording that
    stands still; `subjective` of a clip that nobody was to rate."""

    clip: str
    metric: str


class Rating(Figures):
    rater: str
    clip: str
    candidate: str
    dynamics: Level
    camera_control: Level
    frame_quality: Level
    accuracy: Level
    time: AwareDatetime
    repeat: int = 0
    """0 for the first time that the rater sees the video; repeats test the rater and are not part
    of the mean."""


class Choice(Figures):
    """One answer to which of two videos of a clip is better."""

    rater: str
    clip: str
    left: str
    right: str
    """Candidates by the side that their videos were on."""
    answer: Literal["Left", "Right", "Tie", "BothBad"]
    time: AwareDatetime


class Cost(Figures):
    """Cost of a candidate; null where it is not known, 0 where nothing was trained."""

    candidate: str
    training_gpu_hours: NotNegative | None = None
    training_price: NotNegative | None = None
    clip_gpu_hours: NotNegative | None = None
    clip_price: NotNegative | None = None


class Evidence(Figures):
    candidates: Annotated[tuple[str, ...], Field(min_length=1)]
    clips: tuple[str, ...]
    """Test set. A clip of it that a candidate has neither a score nor a failure of is a failure."""
    metrics: tuple[Metric, ...] = ()
    scores: tuple[Score, ...] = ()
    failures: tuple[Failure, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    """Clips that are no part of the mean of a metric, for those that rendered them."""
    ratings: tuple[Rating, ...] = ()
    choices: tuple[Choice, ...] = ()
    costs: tuple[Cost, ...] = ()


class Settings(Figures):
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of intervals; of differences, of all pairs of a metric together."""
    resamples: Annotated[int, Field(ge=200)] = 2000
    seed: int = 0
    minimum_clips: Annotated[int, Field(ge=2)] = 8
    """Clips without which there is no winner."""
    floor_multiple: NotNegative = 2.0
    """Noise floors that a difference must exceed. Two renders of one candidate differ by less than
    two floors in about 95 of 100 cases."""
    clips_of_cost: Annotated[int, Field(gt=0)] = 1000
    """Clips that the cost of training is shared by."""
    raters_left_out: frozenset[str] = frozenset()
    """Raters whose answers do not count, by a person's decision; they are named in the result."""
