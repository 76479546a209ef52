"""Steps of a video that are computed where others are left out: evenly in noise level. No torch.

An Euler step goes as far as its noise level falls, and a schedule with a time shift begins with
steps of a two-hundredth of the way and ends with ones of a tenth. Those that are computed are
chosen so that what one velocity stands for is as short as it can be everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from wan_runtime.contract.steps import Expert

FIRST_SHARE = 0.1
"""Share of a video's steps at its beginning that are all computed: they lay its motion down."""
FRESH = 2
"""Steps that are computed once another expert has begun: a change is known from two."""
HALVINGS = 40


def spaced(sigmas: Sequence[float], experts: Sequence[Expert], count: int) -> frozenset[int]:
    """Numbers of the steps that are computed: the first ones, those after a change of experts, the
    last one, and of the others as many as make `count` or fewer.

    Args:
        sigmas: noise level that each step starts from, falling.
        experts: transformer of each step.
    """
    if count >= len(sigmas):
        return frozenset(range(len(sigmas)))
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if len(_within(middle, sigmas, experts)) > count:
            low = middle
        else:
            high = middle
    return _within(high, sigmas, experts)


def _within(gap: float, sigmas: Sequence[float], experts: Sequence[Expert]) -> frozenset[int]:
    """Steps such that no velocity stands for a longer fall of the noise level than `gap`, unless a
    single step falls farther."""
    first = max(FRESH, round(FIRST_SHARE * len(sigmas)))
    found: list[int] = []
    for number, sigma_after in enumerate([*sigmas[1:], 0.0]):
        fresh = experts[number - FRESH : number] != [experts[number]] * FRESH
        must = number < first or number == len(sigmas) - 1 or fresh
        if must or sigmas[found[-1]] - sigma_after > gap:
            found.append(number)
    return frozenset(found)
