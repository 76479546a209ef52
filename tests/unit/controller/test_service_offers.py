"""What gateways offer while workers of two revisions render."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, tiny
from unit.controller.test_service_seconds import service

Raw = dict[str, Any]
SMALL, LARGE = {"width": 128, "height": 96}, {"width": 256, "height": 192}
CANARY = {"strategy": "Canary", "canary": {"percent": 20, "minVideos": 10}, "capacity": "Assume"}
SURGE = {"strategy": "Surge", "capacity": "Assume"}


def changed(rollout: Raw, before: Raw, after: Raw) -> World:
    world = World(tiny(rollout=rollout, **before))
    world.settle()
    world.edit(**after)
    world.turn()
    return world


def offered(world: World) -> tuple[list[Raw], Raw | None]:
    """Sizes, and the size of a request that names none but the first."""
    served = world.served()
    return served["sizes"], served["defaults"].get("size")


def test_a_canary_is_tried_out_with_what_is_served() -> None:
    """Most videos meet workers of the model that serves; those of the canary settle the rest."""
    preset, other = "Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny"
    for rollout, leads, follows in ((CANARY, preset, other), (SURGE, other, preset)):
        world = changed(
            rollout,
            {"model": {"preset": preset}, "defaults": {"frames": 9, "steps": 5}},
            {"model": {"preset": other}, "defaults": {"frames": 17, "steps": 3}},
        )
        served = world.served()
        assert served["model"]["preset"] == leads
        (beside,) = served["others"]
        assert beside["model"]["preset"] == follows
        assert {served["defaults"]["steps"], beside["defaults"]["steps"]} == {3, 5}


@pytest.mark.parametrize("rollout", [CANARY, SURGE])
def test_a_default_size_is_one_that_all_have(rollout: Raw) -> None:
    world = changed(
        rollout,
        {"sizes": [SMALL], "defaults": {"size": SMALL}},
        {
            "sizes": [LARGE, SMALL],
            "defaults": {"size": LARGE},
            "effects": [{"name": "wide", "prompt": "{prompt}", "sampling": {"size": LARGE}}],
        },
    )
    sizes, default = offered(world)
    assert sizes == [SMALL]
    assert default in (None, SMALL)
    assert "size" not in world.served()["effects"][0]["sampling"]


@pytest.mark.parametrize("rollout", [CANARY, SURGE])
def test_of_sizes_that_only_one_has_those_that_serve_are_offered(rollout: Raw) -> None:
    world = changed(rollout, {"sizes": [SMALL]}, {"sizes": [LARGE], "defaults": {"size": LARGE}})
    assert offered(world) == ([SMALL], None)
    world.edit(rollout=SURGE)
    world.settle()
    assert offered(world) == ([LARGE], LARGE)


def test_no_default_length_is_beyond_a_limit_that_was_lowered() -> None:
    """The revision that serves has the length of the limit as it was."""
    before = {"defaults": {}, "limits": {"frames": 13}}
    world = changed(CANARY, before, {"limits": {"frames": 9}})
    assert world.served("worker")["defaults"]["frames"] == 13
    served = world.served()
    assert served["limits"]["frames"] == 9
    assert "frames" not in served["defaults"], "the shorter one of the preset's and the limit"


@pytest.mark.parametrize("rollout", [CANARY, SURGE])
def test_longer_videos_wait_for_workers_that_were_planned_for_them(rollout: Raw) -> None:
    """For their host memory, and the time to end one before a pod is killed."""
    world = World(service(1, rollout=rollout, limits={"frames": 81}))
    world.settle()
    before, drain = world.status["revision"], world.status["effective"]["drainSeconds"]
    world.edit(limits={"frames": 161})
    world.turn()
    assert world.status["effective"]["drainSeconds"] == drain
    assert world.status["revision"] == before, "they are at work"
    assert world.served()["limits"]["frames"] == 81
    world.edit(effects=[{"name": "long", "prompt": "x", "sampling": {"frames": 161}}])
    world.turn()
    assert "frames" not in world.served()["effects"][0]["sampling"]
    world.edit(rollout=SURGE)
    world.settle()
    assert world.status["revision"] != before
    assert world.status["effective"]["drainSeconds"] > 1.5 * drain
    assert world.served()["limits"]["frames"] == 161
    assert world.served()["effects"][0]["sampling"]["frames"] == 161


def test_longer_videos_wait_while_what_the_spec_names_is_awaited() -> None:
    """Or was rolled back: workers are those of before."""
    world = World(service(1, rollout=SURGE | {"deadlineSeconds": 600}, limits={"frames": 81}))
    world.settle()
    adapters = [{"name": "style", "fineTuneRef": {"name": "later"}}]
    world.edit(limits={"frames": 161}, adapters=adapters)
    world.turn()
    assert world.served()["limits"]["frames"] == 81
    world.edit(adapters=[])
    world.turn()
    world.roll(ready=False)
    world.turn(700)
    assert world.status["rollout"]["phase"] == "RolledBack"
    world.settle()
    assert world.served()["limits"]["frames"] == 81


@pytest.mark.parametrize("frames", [85, 41])
def test_a_limit_for_which_workers_are_the_same_holds_at_once(frames: int) -> None:
    """And a lower one in any case."""
    world = World(service(1, rollout=SURGE, limits={"frames": 81}, defaults={"frames": 41}))
    world.settle()
    before = world.running("worker")
    world.edit(limits={"frames": frames})
    world.turn()
    assert (world.running("worker") == before) == (frames == 85)
    assert world.served()["limits"]["frames"] == frames


def test_orders_are_made_for_workers_that_cannot_settle_them() -> None:
    """Those of another release may render an order as it is; those of this one settle it."""
    world = World(tiny(rollout=SURGE, defaults={"frames": 9, "steps": 5}))
    world.settle()
    world.settings = replace(world.settings, runtime_image="wan-runtime:new")
    world.edit(defaults={"frames": 9, "steps": 3})
    world.turn()
    assert world.running("worker") != world.status["revision"]
    assert world.served()["defaults"]["steps"] == 5
    assert world.served()["others"][0]["defaults"]["steps"] == 3
    world.settle()
    assert world.served()["defaults"]["steps"] == 3


def test_seconds_and_prices_are_of_the_workers_that_are_told_of() -> None:
    spec = {"workers": {"gpus": 1}, "defaults": {"frames": 9, "steps": 4}}
    world = changed(CANARY, spec, {"workers": {"gpus": 4}})
    assert "gpus" not in world.served()
    world.edit(rollout=SURGE)
    world.settle()
    assert world.served()["gpus"] == 4


@pytest.mark.parametrize("rollout", [CANARY, SURGE])
def test_pictures_are_reviewed_from_the_edit_on(rollout: Raw) -> None:
    """By gateways, whatever the workers of two revisions do with what they made."""
    hook = {"url": "https://review.example.com/", "timeoutSeconds": 5}
    world = changed(rollout, {}, {"moderation": hook, "results": {"retentionHours": 5}})
    assert world.served()["moderation"]["url"] == hook["url"]
    assert world.served()["results"]["retentionSeconds"] == 5 * 3600
    world.edit(moderation=None)
    world.turn()
    assert "moderation" not in world.served()
