"""What the steps of an evaluation left, as the statistics read it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from wan_runtime.contract.decision import Component, Gate, Scoring
from wan_runtime.contract.evaluation import CandidateSpec, EvaluationWork
from wan_runtime.contract.figures import SUBJECTIVE, TOTAL
from wan_runtime.evaluation.records import Measured, Ratings, TestClip, Video
from wan_runtime.evaluation.statistics import records
from wan_runtime.evaluation.statistics.records import (
    Cost,
    Evidence,
    Exclusion,
    Failure,
    Score,
    metric,
)

REASON_LIMIT = 160
"""Characters of why a video failed, as failures are counted."""
FULL_MARKS = {SUBJECTIVE: 20.0, "psnr": 50.0, "ssim": 1.0}
"""What a part of the total is divided by."""


def evidence_of(
    work: EvaluationWork,
    clips: Sequence[TestClip],
    videos: Sequence[Video],
    measured: Sequence[Measured],
    ratings: Ratings | None,
) -> Evidence:
    """All that the decision rests on. Every clip of every candidate is in it: what has neither a
    score nor a reason has failed."""
    ids = {each.id for each in clips}
    names = {each.name for each in work.candidates}
    known = [each for each in measured if each.clip in ids and each.candidate in names]
    judged = _judged(ratings, ids, names)
    return Evidence(
        candidates=tuple(each.name for each in work.candidates),
        clips=tuple(each.id for each in clips),
        metrics=tuple(metric(name) for name in dict.fromkeys(work.metrics)),
        scores=tuple(_scores(known)),
        failures=tuple(_failures(work, clips, known)),
        exclusions=(*_exclusions(work, known), *_unasked(work, clips)),
        ratings=judged,
        choices=_choices(ratings, ids, names),
        costs=tuple(cost_of(work, each, videos) for each in work.candidates),
    )


def _scores(measured: Sequence[Measured]) -> list[Score]:
    return [
        Score(
            candidate=each.candidate,
            clip=each.clip,
            metric=name,
            value=value,
            render="" if each.render == "First" else each.render,
        )
        for each in measured
        for name, value in each.values.items()
    ]


def _failures(
    work: EvaluationWork, clips: Sequence[TestClip], measured: Sequence[Measured]
) -> list[Failure]:
    first = {(each.candidate, each.clip): each for each in measured if each.render == "First"}
    found = []
    for candidate in work.candidates:
        for clip in clips:
            of = first.get((candidate.name, clip.id))
            reason = "no video was made: its step failed" if of is None else of.failure
            if reason:
                found.append(
                    Failure(candidate=candidate.name, clip=clip.id, reason=reason[:REASON_LIMIT])
                )
    return found


def _exclusions(work: EvaluationWork, measured: Sequence[Measured]) -> list[Exclusion]:
    """Metrics that no candidate has a number of on a clip although it was measured, while there
    are numbers of other clips: the cause is the clip's."""
    first = [each for each in measured if each.render == "First" and not each.failure]
    clips = dict.fromkeys(each.clip for each in first)
    found = []
    for name in dict.fromkeys(work.metrics):
        known = {each.clip for each in first if name in each.values}
        if known:
            found += [Exclusion(clip=clip, metric=name) for clip in clips if clip not in known]
    return found


def _unasked(work: EvaluationWork, clips: Sequence[TestClip]) -> list[Exclusion]:
    """Clips that nobody was to rate: a video that failed there got no mark of anybody."""
    limit = None if work.ratings is None else work.ratings.clips
    rest = [] if limit is None else clips[limit:]
    return [Exclusion(clip=each.id, metric=SUBJECTIVE) for each in rest]


def _judged(
    ratings: Ratings | None, clips: set[str], names: set[str]
) -> tuple[records.Rating, ...]:
    whom = {*names, records.REFERENCE}
    return tuple(
        records.Rating(
            rater=each.rater,
            clip=each.clip,
            candidate=each.candidate,
            time=each.time,
            repeat=int(each.repeat),
            **each.scores,
        )
        for each in (() if ratings is None else ratings.ratings)
        if each.clip in clips and each.candidate in whom
    )


def _choices(
    ratings: Ratings | None, clips: set[str], names: set[str]
) -> tuple[records.Choice, ...]:
    """Without those of pairs that were judged before: each counts once."""
    whom = {*names, records.REFERENCE}
    return tuple(
        records.Choice(
            rater=each.rater,
            clip=each.clip,
            left=each.left,
            right=each.right,
            answer=each.chosen,
            time=each.time,
        )
        for each in (() if ratings is None else ratings.choices)
        if not each.repeat and each.clip in clips and {each.left, each.right} <= whom
    )


def seconds_of(candidate: str, videos: Sequence[Video]) -> float | None:
    """GPU-seconds of a video: the median, since the first one of a pod also compiles. That of other
    kernels is another profile's. None: it is not known, as of ready videos."""
    taken = [
        each.gpu_seconds
        for each in videos
        if each.candidate == candidate
        and each.gpu_seconds is not None
        and each.render != "OtherKernels"
    ]
    return round(statistics.median(taken), 3) if taken else None


def cost_of(work: EvaluationWork, candidate: CandidateSpec, videos: Sequence[Video]) -> Cost:
    """Cost of a candidate, as far as it is known. A base model alone was trained by others."""
    hours = _training_hours(candidate)
    seconds = seconds_of(candidate.name, videos)
    clip = None if seconds is None else seconds / 3600
    price = work.price_per_gpu_hour
    return Cost(
        candidate=candidate.name,
        training_gpu_hours=hours,
        training_price=None if hours is None or price is None else hours * price,
        clip_gpu_hours=clip,
        clip_price=None if clip is None or price is None else clip * price,
    )


def _training_hours(candidate: CandidateSpec) -> float | None:
    if candidate.training is not None:
        return candidate.training.gpu_seconds / 3600
    tuned = candidate.weights is not None or candidate.adapter is not None
    return 0.0 if candidate.preset is not None and not tuned else None


def deciding_metric(work: EvaluationWork) -> str:
    """What decides: people, if they were to rate, else the total of what was measured."""
    if work.decision.metric is not None:
        return work.decision.metric
    rated = work.ratings is not None and work.ratings.mode == "Scores"
    return SUBJECTIVE if rated else TOTAL


def scoring_of(work: EvaluationWork, deciding: str) -> Scoring:
    """Total of a clip: the number that decides, or the weighted total. Parts that nobody was to
    measure are left out of that, and the others weigh as much more."""
    if deciding != TOTAL:
        return Scoring(components=(Component(metric=deciding, weight=1.0),))
    weights: Mapping[str, float] = work.decision.weights.model_dump()
    rated = work.ratings is not None and work.ratings.mode == "Scores"
    wanted = {
        name: weight
        for name, weight in weights.items()
        if weight > 0 and (rated if name == SUBJECTIVE else name in work.metrics)
    }
    if not wanted:
        return scoring_of(work, work.metrics[0])
    whole = sum(wanted.values())
    return Scoring(
        components=tuple(
            Component(metric=name, weight=weight / whole, divisor=FULL_MARKS[name])
            for name, weight in wanted.items()
        )
    )


def gate_of(work: EvaluationWork, winner: str | None) -> Gate | None:
    """The gate, about the winner unless it names a candidate."""
    if work.gate is None:
        return None
    return Gate(
        candidate=work.gate.candidate or winner,
        baseline=work.gate.baseline,
        minimum=work.gate.minimums,
        maximum_regression=work.gate.largest_regressions,
    )
