"""A winner, or the reasons why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from wan_runtime.contract.decision import Difference, Doubt, InconclusiveReason, Verdict
from wan_runtime.evaluation.statistics.records import Settings
from wan_runtime.evaluation.statistics.statistic import TINY
from wan_runtime.evaluation.statistics.student import quantile
from wan_runtime.planner.power import MOST_CLIPS, clips_for


def verdict(
    candidates: Sequence[str],
    quality: Mapping[str, float | None],
    differences: Sequence[Difference],
    doubts: Sequence[Doubt],
    settings: Settings,
    floor: float | None = None,
) -> Verdict:
    """Winner: the candidate that is better than each other one, by the interval of each pair alone.
    A tie: the best ones are equal on every clip. `doubts` are reasons from elsewhere for which
    there can be no winner.

    That the best is the best needs no correction for the number of candidates: the uncorrected
    two-sided comparison with the runner-up keeps the level (K. Hung and W. Fithian, Rank
    verification for exponential families, The Annals of Statistics 47 (2019) 758-782).
    """
    known = {name: value for name, value in quality.items() if value is not None}
    best = max(known, key=lambda name: known[name], default=None)
    found = list(doubts)
    if len(candidates) < 2:
        found.append(doubt("OneCandidate", "there is no other candidate to compare with"))
    if best is None:
        return _inconclusive((), found or [doubt("NoClips", "no candidate has a score")])
    near = [best]
    for each in differences:
        if best not in (each.first, each.second):
            continue
        other = each.second if each.first == best else each.first
        found += _doubts(each, settings)
        if each.better_alone != best:
            near.append(other)
            found += _undecided(each, settings, floor)
    leaders = tuple(sorted(near))
    if not found and len(near) == 1:
        return Verdict(outcome="Winner", winner=best, leaders=leaders, doubts=())
    if found and all(each.reason == "Identical" for each in found):
        return Verdict(outcome="Tie", winner=None, leaders=leaders, doubts=tuple(found))
    return _inconclusive(leaders, found)


def doubt(reason: InconclusiveReason, message: str) -> Doubt:
    return Doubt(reason=reason, message=message)


def _inconclusive(leaders: tuple[str, ...], doubts: Sequence[Doubt]) -> Verdict:
    return Verdict(outcome="Inconclusive", winner=None, leaders=leaders, doubts=tuple(doubts))


def _doubts(each: Difference, settings: Settings) -> list[Doubt]:
    """Reasons that hold however large the difference is."""
    pair = f"{each.first} and {each.second}"
    clips = each.won + each.tied + each.lost
    if each.common == 0 and (clips == 0 or (each.won and each.lost)):
        return [doubt("NoCommonClips", f"{pair} have no clip that both rendered")]
    found = []
    if clips < settings.minimum_clips:
        what = f"{pair} have {clips} common clips, fewer than {settings.minimum_clips}"
        found.append(doubt("FewClips", what))
    people = None if each.alone is None else each.alone.raters
    if people is not None and people < 2:
        what = f"{people} of the raters rated both {pair}, and one person's taste decides nothing"
        found.append(doubt("OneRater", what))
    return found


def _undecided(each: Difference, settings: Settings, floor: float | None) -> list[Doubt]:
    """Why a difference names no better candidate."""
    pair = f"{each.first} and {each.second}"
    if each.won == each.lost == 0 and each.tied > 0:
        return [doubt("Identical", f"{pair} are equal on all {each.tied} common clips")]
    if (estimate := each.alone) is None or estimate.low is None or estimate.high is None:
        return []
    span = f"{estimate.value:.4g} (from {estimate.low:.4g} to {estimate.high:.4g})"
    if estimate.low <= 0 <= estimate.high:
        what = f"{pair} differ by {span}: the interval includes zero{_enough(each, settings)}"
        return [doubt("IntervalTooWide", what), *_failures(each)]
    if each.better_alone is not None:
        what = f"{each.better_alone} is better of {pair} by {span}, but its own mean is lower"
        return [doubt("OtherClips", what)]
    least = "what rounding makes"
    if floor is not None and abs(estimate.value) > TINY:
        least = f"{settings.floor_multiple:g} times the noise floor of {floor:.4g}"
    return [doubt("WithinFloor", f"{pair} differ by {span}, which is not beyond {least}")]


def _enough(each: Difference, settings: Settings) -> str:
    """How many clips would decide it, in words; nothing where it is people who are few."""
    found = each.alone
    if found is None or found.high is None or found.raters is not None:
        return ""
    half = found.high - found.value
    if half <= 0:
        return ""
    spread = half / quantile((1 - settings.level) / 2, found.clips - 1) * math.sqrt(found.clips)
    clips = max(settings.minimum_clips, clips_for(found.value / spread, settings.level))
    if clips > MOST_CLIPS:
        return f"; over {MOST_CLIPS} clips would be needed to find so little"
    about = int(float(f"{clips:.2g}"))
    return f"; about {about} clips would decide it, if they differ by as much as it seems"


def _failures(each: Difference) -> list[Doubt]:
    """Whether the clips that both rendered would have decided."""
    clips = each.won + each.tied + each.lost
    if each.rendered is None or each.rendered.low is None or each.rendered.high is None:
        return []
    if each.common == clips or each.rendered.low <= 0 <= each.rendered.high:
        return []
    better = each.first if each.rendered.low > 0 else each.second
    what = (
        f"{clips - each.common} of {clips} clips failed; on the other {each.common} {better} is "
        "better, so rendering the failed ones again may decide"
    )
    return [doubt("Failures", what)]
