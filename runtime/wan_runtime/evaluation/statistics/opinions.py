"""What people said, and how far it can be relied on."""

from __future__ import annotations

import numpy as np

from wan_runtime.contract.decision import Scoring
from wan_runtime.contract.figures import MetricScore
from wan_runtime.contract.opinions import Opinions
from wan_runtime.evaluation.statistics.agreement import agreements
from wan_runtime.evaluation.statistics.means import metric_score
from wan_runtime.evaluation.statistics.panel import counting
from wan_runtime.evaluation.statistics.raters import raters
from wan_runtime.evaluation.statistics.records import Evidence, Settings
from wan_runtime.evaluation.statistics.resampling import Resamples
from wan_runtime.evaluation.statistics.table import Measure, Table


def opinions(
    evidence: Evidence, table: Table, draws: Resamples, settings: Settings
) -> Opinions | None:
    """Agreement, raters and the hidden references; None without ratings."""
    if not evidence.ratings:
        return None
    first = [each for each in evidence.ratings if each.repeat == 0]
    reference: tuple[MetricScore, ...] = ()
    if (people := table.ratings) is not None and not np.isnan(people.levels[:, -1]).all():
        real = {name: cells[-1:] for name, cells in people.adjusted().items()}
        none = np.zeros((1, len(table.clips)), bool)
        measures = [
            Measure(name, "Higher", cells, none, np.ones(1, bool)) for name, cells in real.items()
        ]
        reference = tuple(metric_score(each, Scoring(), draws, 0, settings) for each in measures)
    return Opinions(
        agreement=() if people is None else agreements(people, settings),
        raters=raters(evidence, settings),
        reference=reference,
        linked=people is None or people.linked,
        replaced=len(first) - len(counting(evidence.ratings)),
        repeats=len(evidence.ratings) - len(first),
    )
