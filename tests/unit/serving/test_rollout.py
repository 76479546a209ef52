"""Which track a video gets, and who claims it."""

from __future__ import annotations

import pytest

from wan_runtime.contract.rollout import Rollout, Track

SUBJECTS = [f"video_{number:032x}" for number in range(20_000)]


def share(rollout: Rollout) -> set[str]:
    return {each for each in SUBJECTS if rollout.drawn(each) is Track.CANARY}


@pytest.mark.parametrize("weight", [0, 1, 10, 50, 99, 100])
def test_the_canary_gets_its_weight(weight: int) -> None:
    drawn = len(share(Rollout(canary="6a", weight=weight))) / len(SUBJECTS)
    # Four standard deviations; none at the ends.
    assert drawn == pytest.approx(weight / 100, abs=4 * (weight * (100 - weight) / 2e8) ** 0.5)


def test_a_growing_weight_takes_none_back() -> None:
    shares = [share(Rollout(canary="6a", weight=weight)) for weight in (5, 20, 60)]
    assert shares[0] < shares[1] < shares[2]


def test_another_canary_gets_others() -> None:
    first, second = (share(Rollout(canary=canary, weight=10)) for canary in ("6a", "7b"))
    assert len(first & second) < len(first) / 5


def test_without_a_canary_all_is_stable_and_anybodys() -> None:
    assert not share(Rollout(weight=100))
    assert Rollout().claimed_by("6a") is None


def test_the_canary_claims_its_own_alone() -> None:
    rollout = Rollout(canary="6a", weight=10)
    assert [rollout.claimed_by(each) for each in ("6a", "5f", "")] == [
        *(Track.CANARY, Track.STABLE, Track.STABLE)
    ]
