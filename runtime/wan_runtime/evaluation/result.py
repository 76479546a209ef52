"""evaluation.json: all that an evaluation found, and what it rests on."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from wan_runtime.contract.base import Contract
from wan_runtime.contract.decision import Decision
from wan_runtime.contract.evaluation import EvaluationWork
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.verdict import Verdict
from wan_runtime.evaluation.records import Ratings, Scores, TestClip, Video


class EvaluationResult(Contract):
    """What the report draws."""

    version: Literal[1] = 1
    namespace: str
    name: str
    made: datetime
    work: EvaluationWork
    """Candidates, clips and settings, as the job file has them."""
    clips: tuple[TestClip, ...]
    videos: tuple[Video, ...]
    scores: Scores
    ratings: Ratings | None = None
    """None: nobody was to rate."""
    deciding: str
    """Metric that decides, `subjective` or `total`."""
    decision: Decision
    """Decision by the deciding metric."""
    totals: Decision
    """Decision by the weighted total: the same as `decision` where that decides."""
    verdict: Verdict
    """As the status has it."""
    inputs: dict[str, ManifestRef] = Field(default_factory=dict)
    """What the steps committed, by their names."""
    image: str = ""
    """Runtime image of the comparison."""
