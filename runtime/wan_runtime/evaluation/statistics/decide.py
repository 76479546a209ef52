"""The decision, from the evidence."""

from __future__ import annotations

from wan_runtime.contract.decision import Decision, Difference, Doubt, Gate, Scoring
from wan_runtime.contract.figures import SUBJECTIVE, TOTAL
from wan_runtime.evaluation.statistics.cost import cost_table, verdict_by_cost
from wan_runtime.evaluation.statistics.differences import differences
from wan_runtime.evaluation.statistics.floor import floor_of_total, floors
from wan_runtime.evaluation.statistics.gate import judge
from wan_runtime.evaluation.statistics.means import (
    failed_in_total,
    missing,
    parts_of_total,
    scores,
)
from wan_runtime.evaluation.statistics.opinions import opinions
from wan_runtime.evaluation.statistics.preferences import preferences
from wan_runtime.evaluation.statistics.records import Evidence, Settings
from wan_runtime.evaluation.statistics.resampling import resamples
from wan_runtime.evaluation.statistics.statistic import Part
from wan_runtime.evaluation.statistics.table import Table, tabled
from wan_runtime.evaluation.statistics.verdict import doubt, verdict

RECIPE = Scoring()
DEFAULTS = Settings()


def decide(
    evidence: Evidence,
    scoring: Scoring = RECIPE,
    gate: Gate | None = None,
    settings: Settings = DEFAULTS,
) -> Decision:
    """Scores, differences, winners and the gate's verdict. The same evidence and settings give the
    same decision, in whatever order the records come. Raises ValueError if records contradict each
    other or name what the evidence does not list."""
    table = tabled(evidence, settings)
    draws = resamples(len(table.clips), len(table.raters), settings.resamples, settings.seed)
    parts = parts_of_total(table, scoring)
    failed = failed_in_total(table, scoring)
    found = floors(evidence)
    floor = floor_of_total(found, scoring)
    scored = scores(table, scoring, draws, settings)
    by_total: list[Difference] = []
    if parts is not None:
        by_total = differences(TOTAL, table.candidates, parts, failed, draws, settings, floor)
    by_metric = [
        each
        for name, measure in table.measures.items()
        for each in differences(
            name,
            table.candidates,
            [Part(1.0, measure.judged, measure.is_rated)],
            measure.failed,
            draws,
            settings,
            found[name].value if name in found else None,
        )
    ]
    doubts = _doubts(table, scoring)
    quality = {each.candidate: each.total.value if each.total else None for each in scored}
    winner = verdict(table.candidates, quality, by_total, doubts, settings, floor)
    choices = preferences(evidence, settings)
    costs = cost_table(evidence.costs, quality, settings)
    return Decision(
        candidates=scored,
        differences=(*by_total, *by_metric),
        floors=tuple(found.values()),
        quality=winner,
        costs=costs,
        quality_per_cost=verdict_by_cost(costs, parts, failed, table, draws, settings, doubts),
        opinions=opinions(evidence, table, draws, settings),
        preferences=choices,
        gate=None
        if gate is None
        else judge(
            gate,
            winner,
            scored,
            (*by_total, *by_metric),
            settings.minimum_clips,
        ),
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
        scoring=scoring,
        raters_left_out=tuple(sorted(settings.raters_left_out)),
    )


def _doubts(table: Table, scoring: Scoring) -> list[Doubt]:
    """What stands in the way of any winner."""
    if not table.clips:
        return [doubt("NoClips", "the test set has no clip")]
    found = []
    lacking = {each: missing(table, scoring, each) for each in table.candidates}
    if not table.raters and any(SUBJECTIVE in names for names in lacking.values()):
        what = "nobody rated a video, and marks decide: have people rate anew, or name a metric"
        found.append(doubt("MissingMetric", f"{what} as decision.metric"))
        lacking = {each: [n for n in names if n != SUBJECTIVE] for each, names in lacking.items()}
    for candidate, names in lacking.items():
        if names:
            what = f"{candidate} has no {', '.join(names)}, which the total needs"
            found.append(doubt("MissingMetric", what))
    return found
