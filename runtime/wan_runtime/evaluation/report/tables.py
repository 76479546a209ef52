"""Tables and charts of the decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from wan_runtime.contract.decision import Decision, Difference
from wan_runtime.contract.evaluation import CandidateSpec
from wan_runtime.contract.figures import DIMENSIONS, SUBJECTIVE, TOTAL, Estimate, MetricScore
from wan_runtime.contract.metric_names import METRICS
from wan_runtime.contract.verdict import Standing
from wan_runtime.evaluation.report.charts import Point, Row, intervals, scatter
from wan_runtime.evaluation.report.markup import (
    NONE,
    details,
    element,
    number,
    paragraph,
    section,
    span,
    table,
    text,
)
from wan_runtime.evaluation.result import EvaluationResult

FLOORS = {"OtherSeed": "other seeds", "OtherKernels": "other kernels"}
BETTER = {"Higher": "more is better", "Lower": "less is better", "NearerToOne": "1 is best"}


def title_of(metric: str) -> str:
    """Name of a number for people."""
    names = {SUBJECTIVE: "opinion of people", TOTAL: "weighted total"}
    return names.get(metric, metric.replace("_", " "))


def standings(result: EvaluationResult) -> str:
    """The candidates, best first."""
    deciding = title_of(result.deciding)
    rated, total = result.ratings is not None, result.deciding != TOTAL
    priced = result.work.price_per_gpu_hour is not None
    columns: list[tuple[str, bool, Callable[[Standing], str]]] = [
        ("Candidate", True, lambda each: text(each.name)),
        ("What it is", True, lambda each: text(described(result.work.candidate(each.name)))),
        (
            f"{deciding.capitalize()} (interval)",
            True,
            lambda each: span(each.quality, each.low, each.high),
        ),
        ("Opinion, 1 to 5", rated, lambda each: number(each.opinion)),
        ("Weighted total", total, lambda each: number(each.total)),
        ("Clips with a video", True, lambda each: f"{each.clips} of {each.clips + each.failed}"),
        ("GPU time of a video", True, lambda each: number(each.seconds, "s")),
        ("Price of a video", priced, lambda each: number(each.cost)),
    ]
    wanted = [(head, cell) for head, used, cell in columns if used]
    heads = [text(head) for head, _ in wanted]
    rows = [[cell(each) for _, cell in wanted] for each in result.verdict.standings]
    drawn = [
        Row(each.name, each.quality, each.low, each.high, each.name == result.verdict.winner)
        for each in result.verdict.standings
        if each.quality is not None
    ]
    level = f"{result.decision.level:.0%}"
    chart = intervals(f"{deciding} of each candidate", drawn) if drawn else ""
    note = f"Intervals are at {level}. A clip without a video counts with the worst value."
    return section(
        "Candidates",
        table("Candidates, best first", heads, rows),
        chart,
        paragraph(note, "quiet"),
    )


def described(candidate: CandidateSpec) -> str:
    """What a candidate is, in a line."""
    if candidate.videos is not None:
        return f"videos of {candidate.videos}"
    if candidate.service is not None:
        return f"{candidate.service.model} of the service {candidate.service.url}"
    parts = [str(candidate.preset)]
    if candidate.weights is not None:
        parts.append(f"with the weights {candidate.weights.uri}")
    if candidate.adapter is not None:
        files = ", ".join(candidate.adapter.files.values())
        parts.append(f"with the adapter {files} at {candidate.adapter.strength:g}")
    if candidate.profile is not None:
        parts.append(f"({candidate.profile})")
    return " ".join(parts)


def comparisons(result: EvaluationResult) -> str:
    """Differences between candidates by what decides, beside the noise floor."""
    decision = result.decision
    found = [each for each in decision.differences if each.metric == TOTAL]
    if not found:
        return ""
    floor, kinds = _floor(decision), _floors(decision)
    rows = [
        Row(
            f"{each.first} – {each.second}",
            each.alone.value,
            each.alone.low,
            each.alone.high,
            each.better_alone is not None,
        )
        for each in found
        if each.alone is not None
    ]
    band = None if floor is None else 2 * floor
    drawn = {f"twice the floor of {FLOORS[kind]}": 2 * value for kind, value in kinds.items()}
    title = f"Differences by {title_of(result.deciding)}, right of zero where the first is better"
    note = (
        "No candidate was rendered twice, so that the noise of rendering is not known."
        if floor is None
        else "The grey band is twice the noise floor: how far the means of two renders of one "
        f"candidate are apart ({number(floor)}). What lies within it is noise. Dashed lines are "
        "twice the floor of "
        + " and of ".join(f"{FLOORS[kind]} ({number(value)})" for kind, value in kinds.items())
        + "."
    )
    heads = ("Pair", "Difference", "Better", "Noise floors", "Clips won, tied, lost")
    return section(
        "Differences",
        intervals(title, rows, zero=True, band=band, lines=drawn) if rows else "",
        paragraph(note),
        table(title, [text(each) for each in heads], [_difference(each) for each in found]),
    )


def _difference(each: Difference) -> Sequence[str]:
    return (
        text(f"{each.first} – {each.second}"),
        _spanned(each.alone),
        text(each.better_alone or NONE),
        number(each.floors),
        f"{each.won}, {each.tied}, {each.lost}",
    )


def _floors(decision: Decision) -> dict[str, float]:
    """Noise floor of what decides by each kind of repeated render, in its own unit."""
    kinds = dict.fromkeys(kind for each in decision.floors for kind in each.by_render)
    found = {
        kind: _weighted(
            decision,
            {
                each.metric: each.by_render[kind]
                for each in decision.floors
                if kind in each.by_render
            },
        )
        for kind in kinds
    }
    return {kind: value for kind, value in found.items() if value is not None}


def _floor(decision: Decision) -> float | None:
    """Noise floor of what decides, in its own unit."""
    return _weighted(decision, {each.metric: each.value for each in decision.floors})


def _weighted(decision: Decision, floors: Mapping[str, float]) -> float | None:
    parts = [
        each.weight * floors[each.metric] / each.divisor
        for each in decision.scoring.components
        if each.metric in floors
    ]
    return sum(parts) if parts else None


def metrics(result: EvaluationResult) -> str:
    """Means of all metrics, with the marks that count as good and their definitions."""
    scores = result.totals.candidates
    names = [each.metric for each in scores[0].metrics] if scores else []
    rows = []
    for name in names:
        of = [next(m for m in each.metrics if m.metric == name) for each in scores]
        cells = [
            _mean(each, _why(result, candidate.candidate, name))
            for candidate, each in zip(scores, of, strict=True)
        ]
        rows.append((_titled(name, of[0].better), *cells))
    heads = ["Metric", *(each.candidate for each in scores)]
    marks = result.totals.scoring.marks
    charts = [
        intervals(f"{title_of(name)}, mark at {mark:g}", drawn, mark=mark)
        for name, mark in marks.items()
        if (drawn := list(_drawn(result, name)))
    ]
    return section(
        "Metrics",
        table("Mean of each metric, failed clips included", [text(each) for each in heads], rows),
        *charts,
        details("What each metric means", _definitions(result)),
    )


def _titled(name: str, better: str) -> str:
    unit = METRICS[name].unit if name in METRICS else ""  # type: ignore[index]
    what = f"{title_of(name)}, {unit}" if unit else title_of(name)
    return text(f"{what} ({BETTER[better]})")


def _why(result: EvaluationResult, candidate: str, name: str) -> str:
    """Why a metric has no number of a candidate, as most of its videos have it."""
    said = Counter(
        each.missing[name]
        for each in result.scores.measured
        if each.candidate == candidate and name in each.missing
    )
    return said.most_common(1)[0][0] if said else ""


def _mean(score: MetricScore, why: str) -> str:
    if score.estimate is None:
        return text(f"not measured: {why}" if why else NONE)
    good = {True: " ✓ reaches the mark", False: " ✗ below the mark", None: ""}[score.good]
    failed = f"; {score.failed} failed" if score.failed else ""
    return text(_spanned(score.estimate) + good + failed)


def _drawn(result: EvaluationResult, name: str) -> Iterator[Row]:
    for each in result.totals.candidates:
        found = next((m.estimate for m in each.metrics if m.metric == name), None)
        if found is not None:
            won = each.candidate == result.verdict.winner
            yield Row(each.candidate, found.value, found.low, found.high, won)


def _definitions(result: EvaluationResult) -> str:
    terms = [
        element("dt", text(title_of(name))) + element("dd", text(METRICS[name].definition))
        for name in result.work.metrics
    ]
    return element("dl", "".join(terms))


def costs(result: EvaluationResult) -> str:
    """Quality beside cost, where the cost of all is known."""
    found = result.decision.costs
    points = [
        Point(each.candidate, each.cost, each.quality, each.on_front)
        for each in found.candidates
        if each.cost is not None and each.quality is not None
    ]
    if found.unit is None or not points:
        return section(
            "Cost",
            paragraph(
                "The cost is not known of all candidates: it is of videos that are rendered here, "
                "and of those of services that state what they took."
            ),
        )
    unit = "price" if found.unit == "Price" else "GPU-hours"
    training = "training and " if found.with_training else ""
    across = f"{unit} of {training}{found.clips} videos"
    title = f"{title_of(result.deciding)} beside the {across}"
    by_cost = result.decision.quality_per_cost
    best = f"Most quality for its cost: {by_cost.winner or 'none is certain'}."
    if not found.with_training:
        best += (
            " Training is left out, since that of a candidate is not known: of a service, or of "
            "LoRA files made elsewhere."
        )
    rows = [
        (text(each.candidate), number(each.cost), number(each.quality), number(each.ratio),
         "yes" if each.on_front else "no")
        for each in found.candidates
    ]  # fmt: skip
    heads = ("Candidate", across.capitalize(), "Quality", "Quality per cost", "Not beaten in both")
    return section(
        "Cost",
        scatter(title, points, across, title_of(result.deciding)),
        table(title, [text(each) for each in heads], rows),
        paragraph(best),
    )


def gate(result: EvaluationResult) -> str:
    """The gate's thresholds, if there is a gate."""
    found = result.totals.gate
    if found is None:
        return ""
    words = {True: "passed", False: "failed", None: "undecided, which is not passed"}
    rows = [
        (text(each.threshold), number(each.limit), _spanned(each.estimate), words[each.passed],
         text(each.message))
        for each in found.checks
    ]  # fmt: skip
    about = f"{found.candidate or 'No candidate'}: {words[found.passed]}. {found.message}"
    heads = ("Threshold", "Limit", "Found", "Verdict", "Why")
    content = table("Thresholds", [text(each) for each in heads], rows) if rows else ""
    return section("Gate", paragraph(about), content)


def people(result: EvaluationResult) -> str:
    """What people said, and how far they agree."""
    opinions, choices = result.totals.opinions, result.totals.preferences
    parts = []
    if opinions is not None and opinions.raters:
        rows = [
            (text(each.rater), str(each.ratings), number(each.correlation),
             number(each.reference_lead), number(each.repeat_distance),
             text(", ".join(each.flags) or NONE))
            for each in opinions.raters
        ]  # fmt: skip
        heads = ("Rater", "Ratings", "Correlation with the others", "Lead of recorded clips",
                 "Levels between repeats", "Flags")  # fmt: skip
        parts.append(table("Raters", [text(each) for each in heads], rows))
        agreed = [
            (text(title_of(each.dimension)), span(each.ordinal, each.low, each.high),
             number(each.interval), str(each.videos), text(each.message or NONE))
            for each in opinions.agreement
        ]  # fmt: skip
        columns = ("Dimension", "Alpha, ordinal", "Alpha, interval", "Videos", "Remark")
        caption = "Agreement by Krippendorff's alpha: 1 is agreement, 0 is chance"
        parts.append(table(caption, [text(each) for each in columns], agreed))
    if choices is not None:
        strengths = [
            (text(each.candidate), span(each.strength, each.low, each.high))
            for each in choices.strengths
        ]
        caption = f"Strengths by {choices.choices} choices between pairs (Bradley-Terry)"
        parts.append(table(caption, ["Candidate", "Strength"], strengths))
    if result.ratings is not None and not result.ratings.complete:
        parts.insert(0, paragraph("The deadline came before all had rated all."))
    return section(f"People ({', '.join(map(title_of, DIMENSIONS))})", *parts)


def _spanned(found: Estimate | None) -> str:
    return NONE if found is None else span(found.value, found.low, found.high)
