"""Mean of each metric and of the total for each candidate, failures included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.decision import CandidateScore, FailureCount, Scoring
from wan_runtime.contract.figures import Estimate, MetricScore
from wan_runtime.evaluation.statistics.records import Settings
from wan_runtime.evaluation.statistics.resampling import Resamples
from wan_runtime.evaluation.statistics.statistic import Part, statistic
from wan_runtime.evaluation.statistics.table import Measure, Table


def parts_of_total(table: Table, scoring: Scoring) -> list[Part] | None:
    """Components of the weighted total; None if one was measured of no candidate."""
    parts = []
    for each in scoring.components:
        if (measure := table.measures.get(each.metric)) is None:
            return None
        parts.append(Part(each.weight / each.divisor, measure.judged, measure.is_rated))
    return parts


def missing(table: Table, scoring: Scoring, candidate: str) -> list[str]:
    """Components of the total that were not measured of a candidate."""
    place = table.index(candidate)
    return [
        each.metric
        for each in scoring.components
        if each.metric not in table.measures or not table.measures[each.metric].measured[place]
    ]


def failed_in_total(table: Table, scoring: Scoring) -> NDArray[np.bool_]:
    """[J, C] Whether a component of the total counts with its worst value."""
    failed = np.zeros((len(table.candidates), len(table.clips)), bool)
    for each in scoring.components:
        if each.metric in table.measures:
            failed |= table.measures[each.metric].failed
    return failed


def scores(
    table: Table, scoring: Scoring, draws: Resamples, settings: Settings
) -> tuple[CandidateScore, ...]:
    """Scores of all candidates, in their order."""
    parts, failed = parts_of_total(table, scoring), failed_in_total(table, scoring)
    return tuple(
        CandidateScore(
            candidate=candidate,
            clips=len(table.clips),
            failures=_failures(table, candidate),
            total=_total(parts, failed, draws, place, settings),
            metrics=tuple(
                metric_score(measure, scoring, draws, place, settings)
                for measure in table.measures.values()
            ),
        )
        for place, candidate in enumerate(table.candidates)
    )


def _failures(table: Table, candidate: str) -> tuple[FailureCount, ...]:
    counted = Counter(reason for (name, _), reason in table.reasons.items() if name == candidate)
    return tuple(
        FailureCount(reason=reason, clips=clips) for reason, clips in sorted(counted.items())
    )


def _total(
    parts: Sequence[Part] | None,
    failed: NDArray[np.bool_],
    draws: Resamples,
    place: int,
    settings: Settings,
) -> Estimate | None:
    if parts is None or not failed.shape[1] or failed[place].all():
        return None
    found = statistic(parts, draws, place)
    return None if found is None else found.estimate(settings.level)


def metric_score(
    measure: Measure, scoring: Scoring, draws: Resamples, place: int, settings: Settings
) -> MetricScore:
    """Mean of a measure for the candidate in one place."""
    values, failed = measure.values[place], measure.failed[place]
    own = values[~np.isnan(values) & ~failed]
    found = (
        statistic([Part(1.0, measure.cells, measure.is_rated)], draws, place) if own.size else None
    )
    mark = scoring.marks.get(measure.name)
    return MetricScore(
        metric=measure.name,
        better=measure.better,
        estimate=None if found is None else found.estimate(settings.level),
        rendered=float(own.mean()) if own.size else None,
        failed=int(failed.sum()),
        unrated=int(np.isnan(values).sum()) if measure.is_rated else 0,
        good=None if found is None or mark is None else _reaches(measure, found.value, mark),
    )


def _reaches(measure: Measure, value: float, mark: float) -> bool | None:
    if measure.better == "NearerToOne":
        return None  # a mean of ratios on both sides of one says nothing
    return value <= mark if measure.better == "Lower" else value >= mark
