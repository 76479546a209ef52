"""`status.effective.distance`."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from unit.controller.service_world import World, example, tiny
from wan_runtime.planner.distance import distance_of
from wan_runtime.presets import PRESETS


def test_a_service_names_the_distance_of_its_profile() -> None:
    world = World(example("effects", adapters=[], effects=[], acceleration={"profile": "Fast"}))
    world.turn()
    known = distance_of(PRESETS["Wan2.2-I2V-A14B"], "Fast", "Spaced", 40)
    assert known is not None
    assert world.status["effective"]["distance"] == {
        "kernels": known.kernels,
        "skippedSteps": known.skipped,
        "measuredOn": "Wan2.2-I2V-Tiny",
    }
    world.edit(defaults={"steps": 16})
    world.turn()
    assert "skippedSteps" not in world.status["effective"]["distance"]
    for attention in ("SDPA", "SageAttention"):
        world.edit(acceleration={"profile": "Fast", "attention": attention})
        world.settle()
        assert "distance" not in world.status["effective"], "measured with another kernel"
    world.edit(acceleration={"profile": "Lossless"})
    world.turn()
    assert "distance" not in world.status["effective"]


@pytest.mark.parametrize("profile", ["Exact", "Balanced"])
def test_a_status_of_an_earlier_release_gets_it_and_no_pod(profile: str) -> None:
    world = World(tiny(acceleration={"profile": profile}))
    world.settle()
    now: dict[str, Any] = copy.deepcopy(world.objects)
    revision, distance = world.status["revision"], world.status["effective"].pop("distance")
    world.turn()
    world.turn()
    assert world.status["effective"]["distance"] == distance
    assert (world.objects, world.status["revision"]) == (now, revision)
