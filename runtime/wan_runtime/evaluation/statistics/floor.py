"""Noise floor: how far two renders of one candidate are apart."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from wan_runtime.contract.decision import Floor, Scoring
from wan_runtime.evaluation.statistics.records import Evidence
from wan_runtime.evaluation.statistics.table import judged


def floors(evidence: Evidence) -> dict[str, Floor]:
    """Floor of each metric that repeated renders were measured with, for means over as many clips
    as the test set has.

    Two renders differ on clip i by d_i. Noise alone moves a mean over n clips by the deviation of
    d_i over the root of n; other kernels may also move all clips one way, by the mean of d_i. The
    floor of a repeated render is the larger of the two; that of a kind of render is their root mean
    square over all candidates. That of the metric is the largest of all kinds: kernels that change
    little say nothing about seeds.
    """
    better = {metric.name: metric.better for metric in evidence.metrics}
    compared: dict[tuple[str, str, str], float] = {}
    again: dict[str, dict[tuple[str, str], dict[str, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for score in evidence.scores:
        value = float(judged(np.array(score.value), better[score.metric]))
        if score.render:
            again[score.metric][score.candidate, score.render][score.clip] = value
        else:
            compared[score.candidate, score.clip, score.metric] = value
    found = {}
    for metric, renders in sorted(again.items()):
        sizes: dict[str, list[float]] = defaultdict(list)
        pairs = 0
        for (candidate, render), values in sorted(renders.items()):
            apart = [
                value - compared[candidate, clip, metric]
                for clip, value in sorted(values.items())
                if (candidate, clip, metric) in compared
            ]
            if len(apart) > 1:
                pairs += len(apart)
                noise = float(np.std(apart, ddof=1)) / np.sqrt(max(1, len(evidence.clips)))
                sizes[render].append(max(abs(float(np.mean(apart))), float(noise)))
        if sizes:
            by_render = {
                render: float(np.sqrt(np.mean(np.square(each)))) for render, each in sizes.items()
            }
            found[metric] = Floor(
                metric=metric,
                value=max(by_render.values()),
                clips=pairs,
                renders=tuple(by_render),
                by_render=by_render,
            )
    return found


def floor_of_total(found: dict[str, Floor], scoring: Scoring) -> float | None:
    """Floor of the weighted total: the sum over its components, an upper bound, since they may move
    together. Components without a floor, such as what people rate, add nothing. None without any.
    """
    parts = [
        each.weight * found[each.metric].value / each.divisor
        for each in scoring.components
        if each.metric in found
    ]
    return sum(parts) if parts else None
