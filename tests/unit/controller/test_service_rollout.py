"""From one revision of the workers to the next, and back."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from unit.controller.service_world import World, report, tiny, track
from wan_runtime.contract.sampling import AttentionKernel
from wan_runtime.contract.service import Profile, ServiceSpec

CANARY = {
    "strategy": "Canary",
    "deadlineSeconds": 600,
    "canary": {"percent": 20, "minVideos": 10, "maxFailedPercent": 10, "maxSlowerPercent": 25},
}


def changed(strategy: str = "Surge", **values: Any) -> tuple[World, str]:
    """A service whose workers shall become others; and the revision that serves."""
    rollout = CANARY if strategy == "Canary" else {"strategy": strategy, "deadlineSeconds": 600}
    world = World(tiny(rollout=rollout, **values))
    world.settle()
    before = world.status["revision"]
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    return world, before


@pytest.mark.parametrize(
    ("strategy", "update"),
    [
        ("Recreate", {"type": "Recreate"}),
        ("Surge", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
    ],
)
def test_a_change_replaces_workers(strategy: str, update: dict[str, Any]) -> None:
    world, before = changed(strategy)
    assert world.status["revision"] == before, "it serves until the new one does"
    assert world.running("worker") != before
    found = world.deployment("worker")
    assert found is not None
    assert found["spec"]["strategy"] == update
    assert world.condition("Reconciling")[1] == "RollingOut"
    assert ("ConfigMap", f"demo-{before}") in world.objects
    world.settle()
    assert world.status["revision"] == world.running("worker")
    assert "rollout" not in world.status
    assert ("ConfigMap", f"demo-{before}") not in world.objects
    assert world.condition("Ready")[:2] == ("True", "Serving")


def test_another_profile_is_another_revision_and_the_default_is_none() -> None:
    """Workers of a release that knew no profiles are the workers that this one would make."""
    world = World(tiny())
    world.settle()
    before = world.status["revision"]
    assert "profile" not in world.served("worker")
    world.edit(acceleration={"profile": "Lossless"})
    world.settle()
    assert world.status["revision"] == before
    world.edit(acceleration={"profile": "Exact"})
    world.settle()
    assert world.status["revision"] != before
    assert world.served("worker")["profile"] == "Exact"


@pytest.mark.parametrize("profile", get_args(Profile))
def test_the_step_cache_that_older_releases_stored_stays_unwritten(profile: Profile) -> None:
    """The API server stored their default, EasyCache, in each service; their operator wrote none.
    So their workers are the workers that this release would make, and go on with that rule."""
    world = World(tiny(acceleration={"profile": profile, "stepCache": "EasyCache"}))
    world.settle()
    before = world.status["revision"]
    served = world.served("worker")
    assert "stepCache" not in served
    assert ServiceSpec.model_validate(served).policy == "EasyCache"
    for other in ("TeaCache", "Spaced"):
        world.edit(acceleration={"profile": profile, "stepCache": other})
        world.settle()
        assert world.status["revision"] != before
        assert world.served("worker")["stepCache"] == other
    world.edit(acceleration={"profile": profile, "stepCache": "EasyCache"})
    world.settle()
    assert world.status["revision"] == before


def test_a_new_service_has_spaced_steps() -> None:
    world = World(tiny())
    world.settle()
    assert ServiceSpec.model_validate(world.served("worker")).policy == "Spaced"


def test_xdit_is_another_revision_and_the_own_exchange_is_none() -> None:
    world = World(tiny(workers={"gpus": 4}))
    world.settle()
    before = world.status["revision"]
    assert "parallel" not in world.served("worker")
    assert world.status["effective"]["parallelism"] == "Native: CFG 2 x Ulysses 2"
    world.edit(parallelism={"backend": "xDiT", "ring": 2})
    world.settle()
    assert world.status["revision"] != before
    assert world.served("worker")["parallel"] == {"backend": "xDiT", "ring": 2}
    assert world.status["effective"]["parallelism"] == "xDiT: CFG 2 x Ulysses 1 x ring 2"


def test_a_named_kernel_is_another_revision_and_auto_is_none() -> None:
    world = World(tiny(acceleration={"profile": "Balanced"}))
    world.settle()
    before = world.status["revision"]
    assert "attention" not in world.served("worker")
    for named in get_args(AttentionKernel):
        world.edit(acceleration={"profile": "Balanced", "attention": named})
        world.settle()
        assert world.status["revision"] != before
        assert ServiceSpec.model_validate(world.served("worker")).attention == named
    world.edit(acceleration={"profile": "Balanced", "attention": "Auto"})
    world.settle()
    assert world.status["revision"] == before


def test_the_first_one_has_nothing_to_go_back_to() -> None:
    world = World(tiny(rollout={"deadlineSeconds": 1}))
    world.turn()
    world.turn(3600)
    assert "rollout" not in world.status
    assert world.condition("Reconciling")[1] == "GatewayStarting"


@pytest.mark.parametrize("strategy", ["Recreate", "Surge", "Canary"])
def test_what_is_not_ready_in_time_goes_back(strategy: str) -> None:
    world, before = changed(strategy)
    new = world.running("canary") or world.running("worker")
    world.roll(ready=False)
    world.turn(599)
    assert world.status["rollout"]["phase"] == "Starting"
    world.turn(2)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == before
    assert world.deployment("canary") is None
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    status, reason, message = world.condition("Stalled")
    assert (status, reason) == ("True", "RolledBack")
    assert world.status["conditions"][0]["type"] == "Stalled", "what kubectl shows"
    said = "no progress for 600 s (spec.rollout.deadlineSeconds): "
    assert message.startswith(f"revision {new} was rolled back: {said}")
    assert any(each.startswith(f"revision {new} RolledBack") for each in world.events)
    world.turn(3600)
    assert world.running("worker") == before, "it is not tried again by itself"


def test_a_new_try_needs_a_new_spec() -> None:
    world, before = changed()
    world.roll(ready=False)
    world.turn(700)
    world.edit(defaults={"frames": 9, "steps": 5})
    world.settle()
    assert world.running("worker") not in ("", before)
    assert world.condition("Stalled") == ("", "", "")


def test_taking_the_change_back_ends_the_rollout() -> None:
    world, before = changed()
    world.edit(defaults={"frames": 9, "steps": 8})
    world.settle()
    assert world.running("worker") == world.status["revision"] == before
    assert "rollout" not in world.status


def test_a_worker_that_says_its_input_is_wrong_goes_back_at_once() -> None:
    world, before = changed()
    ended = {"exitCode": 10, "message": "adapter driver: no key matches"}
    container = {"name": "worker", "ready": False, "restartCount": 1}
    container |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    world.pod("worker", containerStatuses=[container | {"lastState": {"terminated": ended}}])
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert "adapter driver: no key matches" in world.condition("Stalled")[2]
    assert world.running("worker") == before


def test_a_canary_proves_itself() -> None:
    world, before = changed("Canary")
    new = world.running("canary")
    assert world.running("worker") == before != new
    assert world.rollout() == {"weight": 0}
    world.roll()
    world.turn()
    assert world.status["rollout"]["phase"] == "Proving"
    assert world.rollout() == {"canary": new, "weight": 20}
    assert world.condition("Reconciling")[1] == "CanaryProving"
    told = world.status["replicas"], world.status["readyReplicas"]
    assert told == (1, 1), "the scale subresource counts what its selector finds"
    world.report = report(stable=track(100, 1, 10.0), canary=track(9, 0, 12.0))
    world.turn(5)
    assert world.status["rollout"]["message"].startswith("9 of 10 videos")
    world.report = report(stable=track(100, 1, 10.0), canary=track(10, 1, 12.0))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "Promoting"
    assert world.running("worker") == new
    assert world.rollout()["canary"] == new, "its share stays until all are new"
    world.report = report(stable=track(100, 1, 10.0), canary=track(10, 9, 12.0))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "Promoting", "nothing is restored after it was good"
    world.settle()
    assert world.status["revision"] == new
    assert world.deployment("canary") is None
    assert world.rollout() == {"weight": 0}


@pytest.mark.parametrize(
    ("canary", "said"),
    [
        (track(8, 2, 10.0), "the canary failed 2 of 10 videos, 20 percent: more than 10"),
        (track(10, 0, 12.6), "the canary takes 12.6 s a video and the others 10.0, 26 percent"),
    ],
    ids=["fails", "slow"],
)
def test_a_bad_canary_goes_back(canary: Any, said: str) -> None:
    world, before = changed("Canary")
    world.roll()
    world.turn()
    world.report = report(stable=track(100, 1, 10.0), canary=canary)
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert said in world.status["rollout"]["message"]
    assert world.running("worker") == before
    assert world.deployment("canary") is None
    assert world.rollout() == {"weight": 0}


def test_gateways_offer_what_old_and_new_workers_know() -> None:
    files = {"uri": "s3://wan/a.safetensors"}
    world = World(
        tiny(adapters=[{"name": "old", "files": files}, {"name": "both", "files": files}])
    )
    world.settle()
    adapters = [{"name": "both", "files": files}, {"name": "new", "files": files}]
    effects = [{"name": "fresh", "adapters": [{"name": "new"}]}, {"name": "plain"}]
    world.edit(adapters=adapters, effects=effects)
    world.turn()
    assert [each["name"] for each in world.served()["adapters"]] == ["both"]
    assert [each["name"] for each in world.served()["effects"]] == ["plain"]
    world.settle()
    assert [each["name"] for each in world.served()["adapters"]] == ["both", "new"]
    assert [each["name"] for each in world.served()["effects"]] == ["fresh", "plain"]


def test_a_service_at_rest_with_no_worker_changes_at_once() -> None:
    world, before = changed("Surge", replicas=0)
    world.settle()
    assert world.status["revision"] != before


def test_each_share_of_the_canary_has_a_higher_number() -> None:
    world, _ = changed("Canary")
    numbers = [world.share()["number"]]
    world.roll()
    world.turn()
    numbers.append(world.share()["number"])  # within the same second
    world.turn(60)
    assert world.share()["number"] == numbers[-1], "nothing has changed"
    world.edit(defaults={"frames": 9, "steps": 8})
    world.turn(60)
    numbers.append(world.share()["number"])
    assert numbers == sorted(set(numbers))
    # Made again under its name: nothing is left but the queue's rows in the database.
    again = World(tiny())
    again.turn(86400)
    assert again.share()["number"] > numbers[-1]


def test_a_share_that_somebody_broke_is_written_again() -> None:
    world = World(tiny())
    world.settle()
    before = world.share()
    world.objects["ConfigMap", "demo-rollout"]["data"] = {"rollout.json": "{"}
    world.turn(60)
    assert world.share()["number"] > before["number"]
