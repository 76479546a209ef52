"""Evidence as arrays: the value of each metric for each candidate, clip and rater."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.figures import DIMENSIONS, SUBJECTIVE
from wan_runtime.contract.metric_names import Better
from wan_runtime.evaluation.statistics.panel import Panel, panel
from wan_runtime.evaluation.statistics.records import (
    MISSING,
    REFERENCE,
    Evidence,
    Metric,
    Settings,
)

# Shapes: J candidates, C clips, R raters.

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

WORST_LEVEL = 1.0
"""Rating that a failed clip counts with in each dimension."""


@dataclass(frozen=True)
class Measure:
    """A metric, or a dimension that people rate."""

    name: str
    better: Better
    cells: Floats
    """[J, C, R], NaN where there is no value; R is 1 for a metric. Failed clips have the worst
    value, and ratings are without the bias of their rater."""
    failed: Booleans
    """[J, C]"""
    measured: Booleans
    """[J] Whether the metric was measured of the candidate at all."""

    @property
    def is_rated(self) -> bool:
        return self.name == SUBJECTIVE or self.name in DIMENSIONS

    @cached_property
    def values(self) -> Floats:
        """[J, C] Mean over raters, NaN where there is none."""
        return mean_of_known(self.cells)

    @cached_property
    def judged(self) -> Floats:
        """[J, C, R] Cells of which more is better: of a metric where less is better with the other
        sign, and of a ratio it or its inverse, whichever is below 1."""
        return judged(self.cells, self.better)


@dataclass(frozen=True)
class Table:
    candidates: tuple[str, ...]
    clips: tuple[str, ...]
    measures: dict[str, Measure]
    reasons: dict[tuple[str, str], str]
    """(candidate, clip) -> why there is no video."""
    ratings: Panel | None

    @property
    def raters(self) -> tuple[str, ...]:
        return () if self.ratings is None else self.ratings.raters

    def index(self, candidate: str) -> int:
        return self.candidates.index(candidate)


def judged(values: Floats, better: Better) -> Floats:
    """Values of which more is better."""
    match better:
        case "Higher":
            return values
        case "Lower":
            return -values
        case "NearerToOne":
            above = np.where(values > 0, values, 1.0)
            return np.where(values > 0, np.minimum(above, 1 / above), 0.0)


def mean_of_known(cells: Floats) -> Floats:
    """Mean over the last axis of values that are not NaN; NaN where all are."""
    known = ~np.isnan(cells)
    count = known.sum(axis=-1)
    total = np.where(known, cells, 0.0).sum(axis=-1)
    mean = total / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def tabled(evidence: Evidence, settings: Settings) -> Table:
    """Arrays of the evidence, whatever the order of its records.

    A clip of the test set without a score counts as a failure of its candidate: with the metric's
    worst value, so that it can never raise a mean by leaving the denominator. Raises ValueError if
    a record names a candidate, clip or metric that the evidence does not list, or if one value is
    given twice.
    """
    _check(evidence)
    candidates, clips = evidence.candidates, tuple(sorted(evidence.clips))
    j_of, c_of = _places(candidates), _places(clips)
    reasons = {
        (each.candidate, each.clip): each.reason
        for each in evidence.failures
        if each.metric is None
    }
    scored = {(each.candidate, each.clip) for each in evidence.scores if not each.render}
    tried = {candidate for candidate, _ in scored | set(reasons)}
    seen = scored | {(each.candidate, each.clip) for each in evidence.ratings}
    seen |= {(each.candidate, each.clip) for each in evidence.failures if each.metric}
    for candidate in tried:
        for clip in clips:
            if (candidate, clip) not in seen:
                reasons.setdefault((candidate, clip), MISSING)
    no_video = np.zeros((len(candidates), len(clips)), bool)
    for candidate, clip in reasons:
        no_video[j_of[candidate], c_of[clip]] = True
    measures = {
        metric.name: _measured(evidence, metric, no_video, j_of, c_of)
        for metric in evidence.metrics
    }
    ratings = panel(evidence.ratings, candidates, clips, settings)
    if ratings is not None:
        lost = no_video & _counted(evidence, SUBJECTIVE, c_of)
        for name, cells in ratings.adjusted().items():
            cells = cells[: len(candidates)]
            cells[lost] = WORST_LEVEL * (len(DIMENSIONS) if name == SUBJECTIVE else 1)
            rated = np.any(~np.isnan(cells), axis=(1, 2), keepdims=True)[:, :, 0]
            measures[name] = Measure(name, "Higher", cells, lost & rated, rated[:, 0])
    return Table(candidates, clips, measures, reasons, ratings)


def _places(names: tuple[str, ...]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _check(evidence: Evidence) -> None:
    candidates, clips = set(evidence.candidates), set(evidence.clips)
    metrics = {metric.name for metric in evidence.metrics}
    if REFERENCE in candidates:
        raise ValueError(f"no candidate is called {REFERENCE}: that is the real clips' name")
    for what, names in (("candidate", evidence.candidates), ("clip", evidence.clips)):
        if len(set(names)) < len(names):
            raise ValueError(f"the evidence lists a {what} twice")
    if taken := sorted(metrics & {SUBJECTIVE, *DIMENSIONS}):
        raise ValueError(f"the metric {taken[0]} has the name of what people rate")
    named = [(each.candidate, each.clip) for each in evidence.scores]
    named += [(each.candidate, each.clip) for each in evidence.failures]
    people = [(each.candidate, each.clip) for each in evidence.ratings]
    people += [(side, each.clip) for each in evidence.choices for side in (each.left, each.right)]
    named += [each for each in people if each[0] != REFERENCE or each[1] not in clips]
    for candidate, clip in named:
        if candidate not in candidates or clip not in clips:
            raise ValueError(f"a record names clip {clip} of {candidate}, which is not listed")
    keys = [(s.candidate, s.clip, s.metric, s.render) for s in evidence.scores]
    if len(set(keys)) < len(keys):
        raise ValueError("the evidence has two scores of one candidate, clip, metric and render")
    for score in evidence.scores:
        if score.metric not in metrics:
            raise ValueError(f"a score names the metric {score.metric}, which is not listed")


def _counted(evidence: Evidence, metric: str, c_of: dict[str, int]) -> Booleans:
    """[C] Whether a clip is part of the mean of a metric."""
    counted = np.ones(len(c_of), bool)
    for each in evidence.exclusions:
        if each.metric == metric:
            counted[c_of[each.clip]] = False
    return counted


def _measured(
    evidence: Evidence,
    metric: Metric,
    no_video: Booleans,
    j_of: dict[str, int],
    c_of: dict[str, int],
) -> Measure:
    values = np.full(no_video.shape, np.nan)
    for score in evidence.scores:
        if score.metric == metric.name and not score.render:
            values[j_of[score.candidate], c_of[score.clip]] = score.value
    broken = no_video.copy()
    for failure in evidence.failures:
        if failure.metric == metric.name:
            broken[j_of[failure.candidate], c_of[failure.clip]] = True
    # A metric that was measured of none of a candidate's videos says nothing about the candidate.
    known = ~np.isnan(values)
    measured = known.any(axis=1) | broken.all(axis=1) & (broken.shape[1] > 0)
    measured |= (broken & ~no_video).any(axis=1)
    counted = _counted(evidence, metric.name, c_of)
    failed = (broken | (~known & counted)) & measured[:, None]
    values = np.where(failed, metric.worst, values)
    values[~measured] = np.nan
    return Measure(metric.name, metric.better, values[:, :, None], failed, measured)
