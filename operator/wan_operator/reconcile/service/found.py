"""What a service found of another resource that it follows."""

from __future__ import annotations

from dataclasses import dataclass

from wan_operator.api.v1alpha1.common import Artifact

NEEDS_SOMEBODY = frozenset(
    {
        "FineTuneNotFound",
        "FineTuneFailed",
        "FineTuneUnsuitable",
        "EvaluationNotFound",
        "EvaluationFailed",
        "EvaluationUnsuitable",
    }
)
"""Reasons why weights will not come by themselves."""
WAITS = NEEDS_SOMEBODY | {"WaitingForFineTune", "WaitingForEvaluation"}
"""Reasons why there are no weights."""


@dataclass(frozen=True, slots=True)
class Found:
    """Weights of a fine-tune, or why there are none."""

    artifact: Artifact | None
    reason: str = ""
    """From service_conditions; empty with an artifact, and if none is needed."""
    message: str = ""
