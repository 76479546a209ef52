"""Words and numbers that plans of all kinds share."""

from __future__ import annotations

from wan_runtime.planner.workload import Serving, Terms

CENTS_BELOW = 10
EXPLAINED = {
    "yes": "yes",
    "barely": "barely: the estimate does, the upper end of its range does not",
    "unlikely": "unlikely: only the lower end of the range does. The operator tries it",
    "no": "no: the operator refuses it",
}


def term_rows(terms: Terms, form: str) -> list[tuple[str, str]]:
    return [(f"  {name}", f"{value:{form}}") for name, value in terms.items()]


def ranged(value: float, band: float, unit: str) -> str:
    return f"{value:.1f} {unit} ({value * (1 - band):.1f} to {value * (1 + band):.1f})"


def money(cost: float) -> str:
    """With cents where a whole number would say nothing."""
    return f"{cost:.0f}" if cost >= CENTS_BELOW else f"{cost:.2f}"


def steps_of(video: Serving) -> str:
    """Number of a video's steps, and of those that are computed where others are left out."""
    some = "" if video.computed in (None, video.steps) else f", {video.computed} of them computed"
    return f"{video.steps} steps{some}"


def explained(confidence: str) -> str:
    return {
        "Measured": "Measured: rows of this GPU, method and size",
        "Extrapolated": "Extrapolated from rows of other sizes or settings",
        "Estimated": "Estimated: nothing like it has been measured",
    }[confidence]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
