"""Whatever pods do, a run ends or waits with a documented reason, and nothing is done twice."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from unit.controller.world import SETTINGS, Crash, World
from wan_operator.conditions.runs import REASONS
from wan_runtime.contract.job import ExitClass

WALKS = 40


def act(world: World, rng: random.Random) -> None:
    """Something that a cluster or a user does."""
    kinds: list[Callable[[], None]] = [
        lambda: world.passes(rng.choice([1, 20, 400])),
        lambda: world.edit(suspend=rng.random() < 0.4),
        lambda: world.edit(validation={"samples": rng.choice([0, 1])}),
        world.removes_deleted,
    ]
    if world.running_jobs():
        name = rng.choice(world.running_jobs())
        ends = [ExitClass.DONE] * 6 + list(ExitClass)
        missing = 'secret "x" not found'
        kinds += [
            lambda: world.starts(name),
            lambda: world.waits("CreateContainerConfigError", missing, name),
            lambda: world.ends(rng.choice(ends), name=name),
            lambda: world.ends(ExitClass.DONE, name=name),
            lambda: world.exits(rng.choice([0, 1, 10, 20, 137, 143]), name=name),
            lambda: world.evicts(name=name),
            lambda: world.loses_pod(name),
            lambda: world.loses_job(name),
        ]
    rng.choice(kinds)()


def look(world: World, rng: random.Random) -> None:
    """A reconcile; in one of five cases the process dies somewhere in it."""
    with contextlib.suppress(Crash):
        world.look(die_after=rng.choice([None] * 16 + [0, 1, 2, 3]))


def end_of(world: World) -> dict[str, Any]:
    """What an end says, for whatever generation it is read."""
    kept = {key: world.status[key] for key in ("completionTime", "steps")}
    conditions = [each | {"observedGeneration": 0} for each in world.status["conditions"]]
    return kept | {"conditions": conditions}


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("seed", range(WALKS))
def test_a_random_walk_ends_or_waits_with_a_reason(seed: int, at_once: int) -> None:
    rng = random.Random(seed)
    pair: dict[str, Any] = {
        "model": {"preset": "Wan2.2-I2V-Tiny"},
        "parallelism": {"experts": "Parallel"},
    }
    world = World(
        **(pair if at_once == 2 else {}),
        retries={"infrastructure": rng.randint(0, 4), "outOfMemory": rng.randint(0, 1)},
        **({"activeDeadlineSeconds": 5000} if rng.random() < 0.3 else {}),
    )
    world.at_once = at_once
    ended: dict[str, object] | None = None
    for _ in range(120):
        look(world, rng)
        assert len(world.running_jobs()) <= at_once
        if world.is_final and ended is None:
            ended = end_of(world)
        act(world, rng)
    world.removes_deleted()
    world.settle()
    type_, reason = world.leading
    assert reason in REASONS
    assert type_ in ("Complete", "Failed", "Suspended", "Reconciling", "Running")
    if ended is not None:
        assert ended == end_of(world), "final is final"
        assert not world.running_jobs()
    before = world.writes
    world.settle()
    assert world.writes == before, "at rest nothing is written"


def test_the_walks_reach_every_end() -> None:
    """The property above would hold for an operator that does nothing."""
    seen = set()
    for seed in range(WALKS // 2):
        rng = random.Random(seed)
        world = World(SETTINGS, retries={"infrastructure": 2})
        for _ in range(120):
            look(world, rng)
            if "conditions" in world.status:
                seen.add(world.leading[0])
            act(world, rng)
    assert {"Complete", "Failed", "Suspended", "Reconciling", "Running"} <= seen
