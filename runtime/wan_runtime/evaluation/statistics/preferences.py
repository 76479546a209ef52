"""People's choices between pairs: shares and strengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.figures import Estimate
from wan_runtime.contract.opinions import Preference, Preferences, Strength
from wan_runtime.evaluation.statistics.davidson import Fit, fit
from wan_runtime.evaluation.statistics.records import REFERENCE, Choice, Evidence, Settings
from wan_runtime.evaluation.statistics.resampling import Resamples, expanded, resamples
from wan_runtime.evaluation.statistics.share import share
from wan_runtime.evaluation.statistics.statistic import Part, Statistic, statistic

# Shapes: B resamples, C clips, R raters, P pairs, J candidates; 3: first, tie, second.

Floats = NDArray[np.float64]


def preferences(evidence: Evidence, settings: Settings) -> Preferences | None:
    """Shares of each pair and strengths of all candidates, real clips among them if they were
    compared; None without choices. Choices where both are bad count as ties, and are counted apart.
    """
    if not evidence.choices:
        return None
    counted = _counting(evidence.choices, settings)
    sides = {side for each in counted for side in (each.left, each.right)}
    names = [name for name in (*evidence.candidates, REFERENCE) if name in sides]
    pairs = list(combinations(range(len(names)), 2))
    counts = _counts(counted, names, pairs)
    draws = resamples(counts.shape[0], counts.shape[1], settings.resamples, settings.seed)
    message = ""
    strengths = [Strength(candidate=name, strength=None, low=None, high=None) for name in names]
    tie = None
    if not counted:
        message = "all choices are of raters who are left out"
    elif not _linked(counts.sum(axis=(0, 1)), pairs, len(names)):
        message = (
            "no chain of choices links all candidates, so their strengths have no common scale"
        )
    else:
        found, ends = _fitted(counts, np.array(pairs), len(names), draws, settings)
        tie = float(found.ties[0])
        strengths = [
            Strength(candidate=name, strength=float(value), low=low, high=high)
            for name, value, (low, high) in zip(names, found.strengths[0], ends, strict=True)
        ]
    first = [each for each in evidence.choices if each.rater not in settings.raters_left_out]
    return Preferences(
        strengths=tuple(strengths),
        tie=tie,
        pairs=tuple(
            _pair((names[i], names[j]), counts[:, :, place], counted, draws, settings)
            for place, (i, j) in enumerate(pairs)
            if counts[:, :, place].any()
        ),
        choices=len(counted),
        replaced=len(first) - len(counted),
        left=_left(counted, settings),
        message=message,
    )


def _counting(choices: Sequence[Choice], settings: Settings) -> list[Choice]:
    """Choices that count: of those of one rater on one pair of videos, the last. Raises ValueError
    if the two sides are one candidate."""
    last: dict[tuple[str, str, str, str], Choice] = {}
    for each in sorted(choices, key=lambda choice: choice.time):
        if each.left == each.right:
            raise ValueError(f"a choice on clip {each.clip} has {each.left} on both sides")
        if each.rater not in settings.raters_left_out:
            first, second = sorted((each.left, each.right))
            last[each.rater, each.clip, first, second] = each
    return [last[key] for key in sorted(last)]


def _counts(
    choices: Sequence[Choice], names: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> Floats:
    """[C, R, P, 3] Choices on each clip by each rater."""
    clips = {name: place for place, name in enumerate(sorted({each.clip for each in choices}))}
    raters = {name: place for place, name in enumerate(sorted({each.rater for each in choices}))}
    rows = {(names[i], names[j]): place for place, (i, j) in enumerate(pairs)}
    counts = np.zeros((len(clips), len(raters), len(pairs), 3))
    for each in choices:
        kind = {"Left": 0, "Right": 2}.get(each.answer, 1)
        pair = (each.left, each.right)
        if pair not in rows:
            pair, kind = pair[::-1], 2 - kind
        counts[clips[each.clip], raters[each.rater], rows[pair], kind] += 1
    return counts


def _linked(counts: Floats, pairs: Sequence[tuple[int, int]], candidates: int) -> bool:
    reached = {0}
    for _ in range(candidates):
        for (i, j), row in zip(pairs, counts, strict=True):
            if row.any() and reached & {i, j}:
                reached |= {i, j}
    return len(reached) == candidates


def _fitted(
    counts: Floats,
    pairs: NDArray[np.intp],
    candidates: int,
    draws: Resamples,
    settings: Settings,
) -> tuple[Fit, list[tuple[float | None, float | None]]]:
    """The fit to all choices, and the ends of an interval for each candidate: deviations over clips
    and over raters, added."""
    found = fit(counts.sum(axis=(0, 1))[None], pairs, candidates)
    deviations = np.zeros((settings.resamples, candidates))
    freedom = float("inf")
    for units, axis in ((draws.clips, 1), (draws.raters, 0)):
        if units.shape[1] > 1:
            by_unit = counts.sum(axis=axis)
            # A resample has one unit fewer, and the prior is that of a full table.
            scale = units.shape[1] / (units.shape[1] - 1)
            again = np.einsum("bu,upk->bpk", units, by_unit, optimize=True) * scale
            deviations += fit(again, pairs, candidates).strengths - found.strengths
            freedom = min(freedom, units.shape[1] - 1)
    if freedom == float("inf"):
        return found, [(None, None)] * candidates
    ends = [
        expanded(found.strengths[0, place] + deviations[:, place], settings.level, freedom)
        for place in range(candidates)
    ]
    return found, list(ends)


def _pair(
    names: tuple[str, str],
    counts: Floats,
    choices: Sequence[Choice],
    draws: Resamples,
    settings: Settings,
) -> Preference:
    """Shares of one pair from `counts` [C, R, 3]."""
    won, tied, lost = (int(each) for each in counts.sum(axis=(0, 1)))
    number = counts.sum(axis=2)
    cells = (counts[:, :, 0] + counts[:, :, 1] / 2) / np.where(number > 0, number, 1)
    cells = np.where(number > 0, cells, np.nan)
    bad = [e for e in choices if {e.left, e.right} == set(names) and e.answer == "BothBad"]
    return Preference(
        first=names[0],
        second=names[1],
        won=won,
        tied=tied,
        lost=lost,
        both_bad=len(bad),
        win_rate=_wider(
            share(won + tied / 2, won + tied + lost, settings.level),
            statistic([Part(1.0, cells[None], rated=True)], draws, 0),
            settings,
        ),
    )


def _wider(
    single: Estimate | None, clustered: Statistic | None, settings: Settings
) -> Estimate | None:
    """Share with the wider of two intervals: that of independent choices, which is never empty, and
    that over clips and raters."""
    if single is None or clustered is None:
        return single
    other = clustered.estimate(settings.level)
    ends = [end for end in (single.low, single.high, other.low, other.high) if end is not None]
    return Estimate(
        value=single.value,
        low=max(0.0, min(ends)),
        high=min(1.0, max(ends)),
        clips=other.clips,
        raters=other.raters,
    )


def _left(choices: Sequence[Choice], settings: Settings) -> Estimate | None:
    sides = [each.answer for each in choices if each.answer in ("Left", "Right")]
    return share(sides.count("Left"), len(sides), settings.level)
