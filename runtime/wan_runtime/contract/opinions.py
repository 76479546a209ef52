"""What people said of an evaluation's videos, and how far they can be relied on."""

from __future__ import annotations

from typing import Literal

from wan_runtime.contract.figures import Estimate, Figures, MetricScore

RaterFlag = Literal["Constant", "Correlation", "References", "Repeats"]
"""Sign of an unreliable rater: all ratings equal; little in common with the other raters; real
clips rated below generated ones; other ratings when the same video came again."""


class Agreement(Figures):
    """Krippendorff's alpha of one dimension: 1 is agreement, 0 is chance."""

    dimension: str
    ordinal: float | None
    """Null where the coefficient is not defined: no video has two ratings, or all are equal."""
    interval: float | None
    nominal: float | None
    low: float | None
    high: float | None
    """Ends of a bootstrap interval of the ordinal one."""
    videos: int
    """Videos with at least two ratings."""
    message: str = ""
    """Why it is not defined."""


class Rater(Figures):
    rater: str
    ratings: int
    """Ratings that count, hidden references included."""
    choices: int
    bias: dict[str, float]
    """Dimension -> how much higher than the others this rater rates the same videos. It is
    subtracted before any mean."""
    correlation: float | None
    """Correlation of the sum of dimensions with the mean of the other raters'."""
    reference_lead: float | None
    """How much higher the sum of dimensions is for real clips than for generated ones."""
    repeat_distance: float | None
    """Mean difference in levels between the ratings of a video that came twice."""
    flags: tuple[RaterFlag, ...]
    left_out: bool
    """Whether a person decided that these answers do not count. A flag alone leaves nothing out."""


class Opinions(Figures):
    """Mean opinions of the candidates stand among their metrics."""

    agreement: tuple[Agreement, ...]
    raters: tuple[Rater, ...]
    reference: tuple[MetricScore, ...]
    """Mean opinions of the real clips that were hidden among the videos."""
    linked: bool
    """Whether videos in common link all raters; if not, their biases are compared with those of a
    part of them alone."""
    replaced: int
    """Ratings that the same rater sent again later; the last one counts."""
    repeats: int
    """Ratings of videos that came again. They test the rater alone."""


class Preference(Figures):
    """Choices between two candidates."""

    first: str
    second: str
    won: int
    tied: int
    """Choices without a better one, those where both are bad included."""
    lost: int
    both_bad: int
    win_rate: Estimate | None
    """Share that the first won; ties count half."""


class Strength(Figures):
    candidate: str
    strength: float | None
    """Natural logarithm of the strength, with mean 0: the odds of two candidates are the
    exponential of their difference. Null without choices, or if nothing links them."""
    low: float | None
    high: float | None


class Preferences(Figures):
    """Bradley-Terry model of pairwise choices, with ties."""

    strengths: tuple[Strength, ...]
    tie: float | None
    """Weight of a tie beside the geometric mean of two strengths (Davidson's nu)."""
    pairs: tuple[Preference, ...]
    choices: int
    replaced: int
    """Choices that the same rater made again later; the last one counts."""
    left: Estimate | None
    """Share of the left side among the choices with a better one; far from a half, raters clicked a
    side."""
    message: str = ""
    """Why there are no strengths."""
