"""The deadline of a rollout counts from its last progress."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from unit.controller.service_world import World, report, tiny, track
from wan_operator.resources.service.names import REVISION
from wan_runtime.contract.report import WorkerReport
from wan_runtime.contract.rollout import Rollout

TOO_FEW = (
    "the canary made {} since it began, and spec.rollout.canary.minVideos wants 10: lower it, or "
    "raise canary.percent or rollout.deadlineSeconds"
)
SLOW = {"deadlineSeconds": 1800, "canary": {"minVideos": 10}}
ADAPTERS = [{"name": "style", "files": {"uri": "s3://wan/style.safetensors"}}]


def begun(strategy: str, *, replicas: int = 3, **spec: Any) -> tuple[World, str]:
    """A service of three workers in the middle of a change; and the revision that serves."""
    rollout: dict[str, Any] = {"strategy": strategy, "deadlineSeconds": 600, "capacity": "Assume"}
    if strategy == "Canary":
        rollout["canary"] = {"minVideos": 10}
    world = World(tiny(rollout=rollout, replicas=replicas, **spec))
    world.settle()
    for _ in range(replicas):
        worker(world)
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    return world, world.status["revision"]


def worker(world: World, part: str = "worker", *, ready: bool = True) -> dict[str, Any]:
    pod = world.pod(part, phase="Running")
    set_ready(pod, ready)
    return pod


def set_ready(pod: dict[str, Any], ready: bool) -> None:
    status = {"name": "worker", "ready": ready, "restartCount": 0, "state": {"running": {}}}
    pod["status"] |= {
        "containerStatuses": [status],
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }


def go(world: World, revision: str) -> None:
    """An old worker ends."""
    old = (
        each
        for (kind, _), each in world.objects.items()
        if kind == "Pod"
        and each["metadata"]["labels"].get(REVISION) == revision
        and each["status"]["phase"] == "Running"
    )
    next(old)["status"] = {"phase": "Succeeded"}


def heard(*pods: dict[str, Any]) -> tuple[WorkerReport, ...]:
    return tuple(
        WorkerReport(
            name=pod["metadata"]["name"], pod=pod["metadata"]["name"], ready=True, ranks=1,
            seen_seconds=1, revision=pod["metadata"]["labels"][REVISION],
        )
        for pod in pods
    )  # fmt: skip


def test_each_worker_that_is_ready_has_the_deadline_anew() -> None:
    world, before = begun("Surge")
    new = world.running("worker")
    for number in range(1, 4):
        world.turn(590)
        worker(world)
        world.turn(5)
        assert world.status["rollout"]["progress"]["readyWorkers"] == number
        go(world, before)
    assert world.status["rollout"]["phase"] == "Starting", "1785 s after it began"
    world.turn(590)
    progress = world.status["rollout"]["progress"]
    assert progress == {
        "time": "2026-01-01T00:39:35Z", "readyWorkers": 3, "reportedWorkers": 0,
        "canaryVideos": 0, "oldWorkers": 0,
    }  # fmt: skip
    world.turn(590)
    assert world.status["rollout"]["phase"] == "Starting"
    world.turn(20)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == before != new
    assert "progress" not in world.status["rollout"]


def test_a_worker_that_ends_again_and_again_is_no_progress() -> None:
    world, before = begun("Surge")
    pod = worker(world)
    world.turn(5)
    for _ in range(3):
        set_ready(pod, False)
        world.turn(100)
        set_ready(pod, True)
        world.turn(100)
    world.turn(10)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == before


@pytest.mark.parametrize("strategy", ["Recreate", "Surge"])
def test_old_workers_may_end_their_videos(strategy: str) -> None:
    """However long they are; a pod that outlives its time counts no more."""
    world, before = begun(strategy, replicas=1)
    [old] = world.listed("Pod")
    killed = world.now + timedelta(seconds=3000)
    world.objects["Pod", old["metadata"]["name"]]["metadata"]["deletionTimestamp"] = (
        killed.isoformat()
    )
    world.turn(2900)
    assert world.status["rollout"]["phase"] == "Starting"
    assert "; 1 old worker ends its video" in world.status["rollout"]["message"]
    world.turn(690)
    assert world.status["rollout"]["phase"] == "Starting"
    world.turn(30)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == before


def test_a_canary_has_the_deadline_for_each_video() -> None:
    world, before = begun("Canary")
    world.roll()
    world.turn(590)
    assert world.status["rollout"]["phase"] == "Proving"
    for made in range(1, 4):
        world.report = report(canary=track(made, 0, 10.0))
        world.turn(590)
        assert world.status["rollout"]["progress"]["canaryVideos"] == made
    assert world.status["rollout"]["phase"] == "Proving"
    world.turn(601)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert TOO_FEW.format("3 videos") in world.status["rollout"]["message"]
    assert world.running("worker") == before


@pytest.mark.parametrize("end", ["ebb", "silence", "fault"])
def test_a_canary_of_too_few_videos_names_how_many_came_and_are_wanted(end: str) -> None:
    """The number falls again where videos are deleted."""
    world, before = begun("Canary")
    world.roll()
    world.turn(5)
    for made in (1, 2, 3, 2, 1):
        world.report = report(canary=track(made, 0, 10.0))
        world.turn(250)
        said = f"{made} of 10 videos that the canary is judged by were made since it began"
        assert world.status["rollout"]["message"] == said
    world.report = None if end == "silence" else report(canary=track(0, 0))
    world.turn(5)
    assert ("no gateway reports now" in world.status["rollout"]["message"]) == (end == "silence")
    if end == "fault":
        waits = {"waiting": {"reason": "ErrImagePull", "message": "no route"}}
        status = {"name": "worker", "ready": False, "restartCount": 0, "state": waits}
        world.pod("canary", phase="Pending", containerStatuses=[status])
    events = world.turn(601).events
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert TOO_FEW.format("3 videos") in world.condition("Stalled")[2]
    assert ("no route" in world.condition("Stalled")[2]) == (end == "fault")
    assert [TOO_FEW.format("3 videos") in each.message for each in events] == [True]
    assert world.running("worker") == before


@pytest.mark.parametrize("by", ["default", "spec"])
def test_a_canary_of_slow_videos_and_few_requests_proves_itself(by: str) -> None:
    """The default holds for videos of 13 minutes, of which a tenth of the requests are few."""
    world = World(tiny(rollout={"strategy": "Canary"} | ({} if by == "default" else SLOW)))
    world.settle()
    before = world.status["revision"]
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    world.roll()
    for made in range(10):
        world.report = report(stable=track(20, 0, 766.0), canary=track(made, 0, 770.0))
        world.turn(5)
        assert world.status["rollout"]["phase"] == "Proving", made
        world.turn(7200 if by == "default" else 1700)
    world.report = report(stable=track(200, 0, 766.0), canary=track(10, 0, 770.0))
    world.turn(5)
    world.settle()
    assert world.status["revision"] != before


@pytest.mark.parametrize(
    ("strategy", "phase", "seconds"),
    [
        ("Recreate", "Starting", 1800),
        ("Surge", "Starting", 1800),
        ("Canary", "Starting", 1800),
        ("Canary", "Proving", 21600),
    ],
)
def test_the_deadline_by_default(strategy: str, phase: str, seconds: int) -> None:
    """Of what only starts half an hour is enough; a canary then waits for requests."""
    world = World(tiny(rollout={"strategy": strategy}))
    world.settle()
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    world.roll(ready=phase == "Proving")
    if phase == "Proving":
        world.turn()
    world.turn(seconds)
    assert world.status["rollout"]["phase"] == phase
    world.turn(1)
    assert world.status["rollout"]["phase"] == "RolledBack"
    said = f"no progress for {seconds} s (spec.rollout.deadlineSeconds)"
    assert said in world.condition("Stalled")[2]


@pytest.mark.parametrize("makes", [0, 3])
def test_a_canary_that_is_ready_and_not_ready_in_turn_makes_no_progress(makes: int) -> None:
    world, before = begun("Canary")
    canary = worker(world, "canary")
    world.roll()
    world.turn(5)
    began = world.share()["begun"]
    for made in range(makes):
        world.report = report(canary=track(made + 1, 0, 10.0))
        world.turn(500)
    for _ in range(2):
        set_ready(canary, False)
        world.roll(ready=False)
        world.turn(150)
        assert world.status["rollout"]["phase"] == "Proving"
        assert world.status["rollout"]["message"].startswith("1 canary workers of revision")
        assert world.rollout() == {"weight": 0}, "nothing waits for a worker that is gone"
        set_ready(canary, True)
        world.roll()
        world.turn(150)
        assert world.status["rollout"]["phase"] == "Proving"
        assert world.share()["begun"] == began, "its videos still count"
    set_ready(canary, False)
    world.roll(ready=False)
    world.turn(10)
    assert world.status["rollout"]["phase"] == "RolledBack"
    said = world.condition("Stalled")[2]
    assert TOO_FEW.format(f"{makes} videos") in said
    assert "; 1 canary workers of revision" in said
    assert world.running("worker") == before


def test_a_canary_is_judged_from_the_beginning_of_its_own_rollout() -> None:
    """Another share of it changes nothing; but what gateways say of an earlier rollout of the same
    revision, whose share they follow still, is left aside."""
    world, before = begun("Canary")
    world.roll()
    world.turn(5)
    first, share = world.running("canary"), world.share()
    assert share["begun"] == world.status["rollout"]["startTime"]
    canary = {"percent": 50, "minVideos": 10}
    world.edit(rollout=world.cr["spec"]["rollout"] | {"canary": canary})
    world.turn(60)
    assert world.share()["begun"] == share["begun"]
    assert world.share()["number"] > share["number"]
    bad = report(canary=track(0, 10), stable=track(10, 0, 10.0))
    world.report = bad.model_copy(update={"rollout": Rollout.model_validate(world.share())})
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    for steps in (3, 4):  # the cause is mended, and it is tried again
        world.edit(defaults={"frames": 9, "steps": steps})
        world.turn(5)
    world.roll()
    world.turn(5)
    assert world.running("canary") == first
    assert world.status["rollout"]["phase"] == "Proving"
    unread = Rollout.model_validate(share | {"begun": None})  # by a gateway that has just started
    world.report = world.report.model_copy(update={"rollout": unread})
    world.turn(5)
    assert world.status["rollout"]["phase"] == "Proving"
    world.roll()
    world.turn(5)
    again = Rollout.model_validate(world.share())
    assert world.share()["begun"] > share["begun"]
    world.report = world.report.model_copy(update={"rollout": again})
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == before


def promoting(**spec: Any) -> tuple[World, str]:
    """A canary was good, and its workers are followed by all others."""
    world, before = begun("Canary", replicas=1, **spec)
    world.roll()
    canary = worker(world, "canary")
    stable, good = track(100, 1, 10.0), track(10, 0, 10.0)
    for _ in range(2):
        world.report = report(workers=heard(canary), stable=stable, canary=good)
        world.turn(5)
    assert world.status["rollout"]["phase"] == "Promoting"
    del world.objects["Pod", canary["metadata"]["name"]]
    return world, before


def test_a_promotion_that_makes_no_progress_is_reported() -> None:
    """The old workers serve."""
    world, before = promoting()
    world.roll(ready=False)
    world.turn(590)
    assert world.condition("Stalled") == ("", "", "")
    world.turn(20)
    assert world.condition("Stalled")[:2] == ("True", "ProgressDeadlineExceeded")
    said = world.condition("Stalled")[2]
    assert said.startswith("1 of 1 workers are of revision")
    assert "It has made no progress for 600 s (spec.rollout.deadlineSeconds)" in said
    assert world.status["rollout"]["phase"] == "Promoting"
    assert world.status["revision"] == before
    assert ("ConfigMap", f"demo-{before}") in world.objects, "a way back by an edit"
    worker(world, ready=True)
    world.turn(5)
    assert world.condition("Stalled") == ("", "", ""), "it goes on by itself"
    world.settle()
    assert world.status["revision"] == world.running("worker") != before


def test_promoted_workers_of_which_no_report_comes_are_named() -> None:
    """They are ready, and all that would be said for ever is that they are awaited."""
    world, before = promoting(adapters=ADAPTERS)
    world.roll()
    go(world, before)
    pod = worker(world)
    world.report = report(stable=track(100, 1, 10.0))
    world.turn(5)
    world.turn(590)
    assert world.condition("Stalled") == ("", "", "")
    assert world.condition("Reconciling")[:2] == ("True", "RollingOut")
    events = world.turn(20).events
    status, reason, said = world.condition("Stalled")
    assert (status, reason) == ("True", "ProgressDeadlineExceeded")
    name = pod["metadata"]["name"]
    assert f"awaited: pod {name} is ready, but no report of it has come through the data" in said
    assert f"kubectl -n team logs {name}" in said
    assert [(each.type, each.reason) for each in events] == [("Warning", reason)]
    assert world.condition("Ready")[0] == "True", "what is ready serves"
    world.report = report(workers=heard(pod))
    world.turn(5)
    assert world.condition("Stalled") == ("", "", "")
    assert "rollout" not in world.status
    assert world.status["revision"] == world.running("worker") != before
