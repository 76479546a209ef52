"""Scores of one clip, as JSON. No numpy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from wan_runtime.contract.base import Contract
from wan_runtime.contract.metric_names import MetricName

Unscored = Literal[
    "CandidateUnreadable",
    "Crashed",
    "Failed",
    "FirstFrameUnreadable",
    "NoCameraTrack",
    "NoFirstFrame",
    "NoReference",
    "NotMounted",
    "ReferenceUnreadable",
    "StillReference",
    "TimedOut",
    "TooShort",
    "TooSmall",
]
"""Why there is no number. CandidateUnreadable, TimedOut and Crashed are failures of the candidate;
NotMounted is a fault of no clip."""


class Score(Contract):
    """A number, or why there is none."""

    value: float | None = Field(default=None, allow_inf_nan=False)
    reason: Unscored | None = None
    message: str = ""
    """Details of the reason: the file, what is wrong, what would be right."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.value is None) == (self.reason is None):
            raise ValueError("needs either a value or a reason")
        return self


class ClipScores(Contract):
    """What was computed of a clip, on which frames, and with what."""

    scores: dict[MetricName, Score]
    frames_compared: int = 0
    """Frames that were scored at `fps`, without the first."""
    fps: float = 0.0
    """Rate of the timeline that both clips were read on, in frames a second."""
    fps_candidate: float = 0.0
    """The clip's own rate."""
    fps_reference: float | None = None
    width: int = 0
    height: int = 0
    """Pixels of the pictures that were compared."""
    legacy_psnr_uint8: float | None = None
    """Mean over the frames of a ratio from errors that wrap around at 256, as 8-bit arithmetic
    computes them: it means nothing, and stands beside figures that were computed so. None: not
    asked for."""
    seconds: float = 0.0
    """Duration of the scoring."""
    device: str = ""
    """Name of what computed."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries, by name."""
    settings: dict[str, str] = Field(default_factory=dict)
    """Choices that change a number, by name."""
