"""What an evaluation found, as its status shows it. The report has the rest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wan_runtime.contract.base import Contract

MESSAGE_LIMIT = 400
"""Characters of a message: a Result has room for little."""
Message = Annotated[str, Field(max_length=MESSAGE_LIMIT)]


class Standing(Contract):
    """One candidate, in a line."""

    name: str
    clips: int
    """Clips that it has a video for."""
    failed: int = 0
    """Clips for which it has none, or none that could be measured. They count as failures."""
    quality: float | None = None
    """Mean of the deciding metric. None: it has none."""
    low: float | None = None
    high: float | None = None
    """Interval of `quality`, at the level of confidence."""
    opinion: float | None = None
    """Mean opinion score from 1 to 5, if people rated."""
    total: float | None = None
    """Weighted total from 0 to 1."""
    seconds: float | None = None
    """GPU-seconds of a video."""
    cost: float | None = None
    """Price of a video at the stated price of a GPU-hour."""


class GateVerdict(Contract):
    """Whether a candidate reached what the gate asks for."""

    candidate: str | None
    """None: there is no winner to check."""
    passed: bool | None
    """None: data is missing, which never passes."""
    message: Message
    """The numbers."""


class Verdict(Contract):
    """The decision and its reasons."""

    decision: Literal["Winner", "Tie", "Inconclusive"]
    metric: str
    """What decided."""
    winner: str | None = None
    """Candidate of the best quality."""
    cheapest_good: str | None = None
    """The candidate of the lowest cost whose quality is not worse than the winner's beyond the
    noise."""
    message: Message
    """Why, with the numbers."""
    standings: Annotated[tuple[Standing, ...], Field(max_length=16)]
    """Best first."""
    gate: GateVerdict | None = None
