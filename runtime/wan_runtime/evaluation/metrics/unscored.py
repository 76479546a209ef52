"""Why a metric has no number."""

from __future__ import annotations

from wan_runtime.contract.clip_scores import Unscored


class NoScore(Exception):
    """A metric cannot be computed of a pair of clips."""

    def __init__(self, reason: Unscored, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
