"""Figures of an evaluation, all of them JSON: one that does not exist is null, never infinite and
never NaN."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from wan_runtime.contract.base import Contract
from wan_runtime.contract.metric_names import Better

DIMENSIONS = ("dynamics", "camera_control", "frame_quality", "accuracy")
"""Dimensions that people rate from 1 to 5. Each is a metric of that name."""
SUBJECTIVE = "subjective"
"""Metric: the sum of the four dimensions, 4 to 20."""
TOTAL = "total"
"""Weighted total of a clip, as `Scoring` defines it."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Figures(Contract):
    """Base of what has numbers in it: they are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Estimate(Figures):
    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the interval; null if too few clips or raters were seen for one."""
    clips: int
    """Number of clips that it is of."""
    raters: int | None = None
    """Number of people who rated them; null for what nobody rates."""


class MetricScore(Figures):
    """Mean of a metric over all clips of the test set, failures included."""

    metric: str
    better: Better
    estimate: Estimate | None
    """Null without any rendered clip, or if the metric was not measured."""
    rendered: float | None
    """Mean of the clips that have a value of their own."""
    failed: int
    """Clips that count with the worst value of the metric."""
    unrated: int = 0
    """Clips that nobody rated; they are not part of the mean."""
    good: bool | None = None
    """Whether the mean reaches the mark of the scoring; null without a mark."""
