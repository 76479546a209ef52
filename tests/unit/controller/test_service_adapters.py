"""One bad adapter: told by its name, address and cause, while all else is served; and rollouts that
would bring one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, finetune, report, tiny
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote, WorkerReport

Raw = dict[str, Any]
GOOD = {"name": "good", "files": {"uri": "s3://wan/good.safetensors"}}
OLD = {"name": "style", "files": {"uri": "s3://wan/style.safetensors"}}
NEW = {"name": "style", "files": {"uri": "s3://wan/other.safetensors"}}
CAUSE = "s3://wan/style.safetensors is a pickle of PyTorch"


def bad(
    name: str = "style", reason: Reason = Reason.MODEL_INVALID, said: str = CAUSE
) -> AdapterNote:
    return AdapterNote(name=name, ready=False, reason=reason, message=said)


def worker(revision: str, *notes: AdapterNote, usable: tuple[str, ...] = ("good",)) -> WorkerReport:
    return WorkerReport(
        name=f"{revision}-{len(notes)}-{len(usable)}",
        revision=revision,
        ready=True,
        ranks=1,
        adapters=usable,
        adapter_notes=notes,
        seen_seconds=1,
    )


def serving(*adapters: Raw, **spec: Any) -> tuple[World, str]:
    """A service at work with these adapters, and its revision."""
    world = World(tiny(adapters=list(adapters), **spec))
    world.settle()
    return world, world.status["revision"]


def hears(world: World, *workers: WorkerReport) -> None:
    world.report = report(workers=workers)
    world.settle()


def status_of(world: World, name: str = "style") -> Raw:
    found: Raw = next(each for each in world.status["adapters"] if each["name"] == name)
    return found


def test_all_is_served_but_the_adapter_that_is_bad() -> None:
    world, revision = serving(GOOD, OLD)
    assert world.condition("AdaptersReady") == ("", "", ""), "no worker has told"
    hears(world, worker(revision, bad()))
    assert world.condition("Ready")[:2] == ("True", "Serving")
    said = f"; these adapters are not served: style: {CAUSE}"
    assert world.condition("Ready")[2].endswith(said), "nothing else is in kubectl get wan"
    assert world.condition("Stalled") == ("", "", "")
    assert world.condition("AdaptersReady") == ("False", "AdapterInvalid", f"style: {CAUSE}")
    assert status_of(world) == {
        "name": "style", "readyWorkers": 0, "reason": "AdapterInvalid", "message": CAUSE,
        "files": OLD["files"],
    }  # fmt: skip
    assert status_of(world, "good")["readyWorkers"] == 1
    assert world.events[-1] == f"style: {CAUSE}"
    world.turn(60)
    assert world.events.count(f"style: {CAUSE}") == 1, "it is told once"
    hears(world, worker(revision, usable=("good", "style")))
    assert world.condition("AdaptersReady")[:2] == ("True", "AdaptersLoaded")
    assert not world.condition("Ready")[2].endswith(said)
    assert "reason" not in {k for k, v in status_of(world).items() if v}


def test_each_adapter_that_goes_bad_is_an_event() -> None:
    world, revision = serving(GOOD, OLD)
    hears(world, worker(revision, bad()))
    world.events.clear()
    hears(world, worker(revision, bad(), bad("good", said="s3://wan/good is torn"), usable=()))
    assert world.events == ["good: s3://wan/good is torn"]
    hears(world, worker(revision, bad(), usable=("good",)))
    assert len(world.events) == 1, "of the other one it is known"
    hears(world, worker(revision, bad(reason=Reason.MODEL_NOT_FOUND, said="it is gone")))
    assert world.events[1:] == ["style: it is gone"]
    world.report = None
    world.edit(adapters=[GOOD, NEW])
    world.settle()
    hears(world, worker(world.status["revision"], bad(said="s3://wan/other is torn")))
    assert world.events[-1] == "style: s3://wan/other is torn"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (Reason.MODEL_NOT_FOUND, "AdapterNotFound"),
        (Reason.MODEL_INVALID, "AdapterInvalid"),
        (Reason.STORE_ACCESS_DENIED, "StoreAccessDenied"),
        (Reason.STORE_NOT_FOUND, "StoreNotFound"),
        (Reason.UNEXPECTED, "Unexpected"),
        (Reason.NON_FINITE_LOSS, "AdapterInvalid"),
    ],
)
def test_the_reason_is_of_the_closed_list(reason: Reason, shown: str) -> None:
    world, revision = serving(OLD)
    hears(world, worker(revision, bad(reason=reason), usable=()))
    assert world.condition("AdaptersReady")[:2] == ("False", shown)


def test_what_some_workers_can_use_says_how_many_cannot() -> None:
    world, revision = serving(GOOD, OLD, replicas=2)
    hears(world, worker(revision, bad()), worker(revision, usable=("good", "style")))
    assert world.condition("AdaptersReady")[0] == "False"
    assert status_of(world)["message"] == f"{CAUSE} (on 1 of 2 workers)"
    assert status_of(world)["readyWorkers"] == 1


def test_what_is_left_out_is_told_of_an_adapter_that_is_served() -> None:
    world, revision = serving(OLD)
    kept = AdapterNote(name="style", ready=True, message="2 of its layers are image branches")
    hears(world, worker(revision, kept, usable=("style",)))
    assert world.condition("AdaptersReady")[:2] == ("True", "AdaptersLoaded")
    assert "2 of its layers are image branches" in world.condition("AdaptersReady")[2]
    assert status_of(world)["message"] == "2 of its layers are image branches"


def test_an_adapter_of_a_fine_tune_may_be_bad_too() -> None:
    follows = {"name": "style", "fineTuneRef": {"name": "demo"}}
    world = World(tiny(adapters=[follows]))
    world.finetunes["demo"] = finetune("demo")
    world.settle()
    revision = world.status["revision"]
    assert world.condition("AdaptersReady")[:2] == ("True", "FineTunesDone")
    hears(world, worker(revision, bad(said="s3://wan/runs/demo/a has 11 bytes"), usable=()))
    assert world.condition("AdaptersReady")[:2] == ("False", "AdapterInvalid")
    world.finetunes["demo"] = finetune("demo", sha256="b" * 64)
    world.turn()
    assert status_of(world).get("reason", "") == "", "of these weights no worker has told"


def test_what_was_told_holds_while_nobody_says_otherwise() -> None:
    world, revision = serving(OLD)
    hears(world, worker(revision, bad(), usable=()))
    hears(world)
    for _ in range(3):
        world.turn(60)
    assert world.condition("AdaptersReady") == ("False", "AdapterInvalid", f"style: {CAUSE}")
    world.edit(replicas=0)
    world.settle()
    assert world.condition("AdaptersReady") == ("False", "AdapterInvalid", f"style: {CAUSE}")
    world.edit(adapters=[NEW])
    world.settle()
    assert world.condition("AdaptersReady") == ("", "", ""), "of these files nobody has told"


def test_what_was_told_of_a_fine_tune_outlives_an_edit() -> None:
    world = World(tiny(adapters=[{"name": "style", "fineTuneRef": {"name": "demo"}}]))
    world.finetunes["demo"] = finetune("demo")
    world.settle()
    hears(world, worker(world.status["revision"], bad(), usable=()))
    hears(world)
    world.edit(replicas=0)
    world.settle()
    assert world.condition("AdaptersReady") == ("False", "AdapterInvalid", f"style: {CAUSE}")


def test_what_was_told_before_a_rollback_belongs_to_those_files() -> None:
    world, old, new = begun("Surge", [GOOD, OLD], [GOOD, NEW])
    world.roll()
    hears(world, worker(old, usable=("good", "style")), worker(new, bad()))
    assert world.status["rollout"]["phase"] == "RolledBack"
    hears(world)
    world.edit(replicas=0)
    world.turn()
    assert world.condition("AdaptersReady") == ("False", "AdapterInvalid", f"style: {CAUSE}")
    world.edit(adapters=[GOOD, OLD])
    world.settle()
    assert world.condition("AdaptersReady") == ("", "", ""), "of the old ones nobody said so"


ROLLOUTS: dict[str, Raw] = {
    "Recreate": {"strategy": "Recreate"},
    "Surge": {"strategy": "Surge"},
    "Canary": {"strategy": "Canary", "canary": {"percent": 20, "minVideos": 2}},
}


def begun(
    strategy: str, before: list[Raw], after: list[Raw], **edit: Any
) -> tuple[World, str, str]:
    """A rollout under way, with the old revision and the new one. The old workers can use all."""
    world, old = serving(*before, rollout=ROLLOUTS[strategy] | {"deadlineSeconds": 600})
    names = tuple(each["name"] for each in before)
    hears(world, worker(old, usable=names))
    world.edit(adapters=after, **edit)
    world.turn()
    return world, old, world.running("canary") or world.running("worker")


@pytest.mark.parametrize("strategy", ROLLOUTS)
@pytest.mark.parametrize(
    ("before", "after"),
    [([GOOD], [GOOD, OLD]), ([GOOD, OLD], [GOOD, NEW]), ([], [OLD])],
    ids=["added", "moved", "first"],
)
def test_a_change_that_brings_a_bad_adapter_goes_back(
    strategy: str, before: list[Raw], after: list[Raw]
) -> None:
    world, old, new = begun(strategy, before, after)
    names = tuple(each["name"] for each in before)
    world.roll()
    world.report = report(workers=(worker(old, usable=names), worker(new, bad())))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == old
    world.report = report(workers=(worker(old, usable=names),))
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    status, reason, message = world.condition("Stalled")
    assert (status, reason) == ("True", "RolledBack")
    assert f"adapter style: {CAUSE}" in message
    assert world.condition("AdaptersReady")[:2] == ("False", "AdapterInvalid")


@pytest.mark.parametrize("strategy", ROLLOUTS)
def test_what_was_bad_before_holds_no_change_up(strategy: str) -> None:
    world, old = serving(GOOD, OLD, rollout=ROLLOUTS[strategy] | {"deadlineSeconds": 600})
    hears(world, worker(old, bad()))
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    new = world.running("canary") or world.running("worker")
    world.roll()
    world.report = report(workers=(worker(old, bad()), worker(new, bad())))
    world.turn(5)
    assert world.status.get("rollout", {}).get("phase") != "RolledBack"
    if strategy == "Canary":
        assert world.status["rollout"]["phase"] == "Proving"
    else:
        assert world.status["revision"] == new
    assert world.condition("AdaptersReady")[:2] == ("False", "AdapterInvalid")


def test_a_file_that_vanished_meanwhile_keeps_the_workers_that_have_it() -> None:
    world, old, new = begun("Surge", [GOOD, OLD], [GOOD, OLD], defaults={"frames": 9, "steps": 4})
    world.roll()
    gone = bad(reason=Reason.MODEL_NOT_FOUND, said="s3://wan/style.safetensors does not exist")
    with_it = worker(old, usable=("good", "style"))
    world.report = report(workers=(with_it, worker(new, gone)))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == old


@pytest.mark.parametrize("strategy", ROLLOUTS)
def test_new_workers_serve_once_they_have_told(strategy: str) -> None:
    world, old, new = begun(strategy, [GOOD], [GOOD, OLD])
    world.roll()
    world.turn(5)
    assert world.status["rollout"]["phase"] == "Starting"
    assert world.status["revision"] == old
    if strategy != "Canary":
        said = "which adapters they can use is awaited"
        assert said in world.status["rollout"]["message"]
    told = (worker(old), worker(new, usable=("good", "style")))
    world.report = report(workers=told)
    world.turn(5)
    if strategy == "Canary":
        assert world.status["rollout"]["phase"] == "Proving"
        world.report = report(workers=told[:1])
        world.turn(5)
        assert world.status["rollout"]["phase"] == "Proving", (
            "a beat that is missed takes none back"
        )
    else:
        assert world.status["revision"] == new


def test_nobody_waits_for_a_gateway_that_does_not_answer() -> None:
    world, _, new = begun("Surge", [GOOD], [GOOD, OLD])
    world.report = None
    world.settle()
    assert world.status["revision"] == new


def test_an_old_worker_stays_until_the_new_one_can_have_told() -> None:
    for adapters, seconds in (([OLD], 15), ([], None)):
        world, _ = serving(*adapters, rollout={"strategy": "Surge", "deadlineSeconds": 5})
        found = world.deployment("worker")
        assert found is not None
        assert found["spec"].get("minReadySeconds") == seconds
        assert found["spec"]["progressDeadlineSeconds"] > (seconds or 0)
    world, _ = serving(OLD, rollout={"strategy": "Recreate"})
    found = world.deployment("worker")
    assert found is not None
    assert "minReadySeconds" not in found["spec"]


def test_a_schedule_belongs_to_the_workers_that_have_it() -> None:
    """Each worker renders by its own, and a request must be one that all of them can render."""
    for before, after in ((OLD, NEW | {"distilled": {}}), (NEW | {"distilled": {}}, OLD)):
        world, old, new = begun("Surge", [GOOD, before], [GOOD, after])
        for served, adapter in ((world.served(), after), (world.served()["others"][0], before)):
            style = served["adapters"][1]
            assert style["files"] == {"Only": adapter["files"]["uri"]}
            schedule = {"steps": 4, "shift": 5.0} if "distilled" in adapter else None
            assert style.get("distilled") == schedule
        world.roll()
        hears(world, worker(new, usable=("good", "style")))
        world.turn(60)
        assert world.status["revision"] == new != old
        assert "others" not in world.served()


def test_another_schedule_is_another_revision() -> None:
    world, revision = serving(OLD)
    assert "distilled" not in world.served("worker")["adapters"][0]
    world.edit(adapters=[OLD | {"distilled": {}}])
    world.settle()
    assert world.status["revision"] != revision
    assert world.served("worker")["adapters"][0]["distilled"] == {"steps": 4, "shift": 5.0}


@pytest.mark.parametrize("strategy", ROLLOUTS)
def test_a_schedule_outlives_the_release_that_kept_it_for_gateways(strategy: str) -> None:
    """Its workers render orders as they are: without the schedule, 40 guided steps."""
    image, schedule = "wan-runtime:new", {"steps": 4, "shift": 5.0}
    world, old = serving(OLD, GOOD, rollout=ROLLOUTS[strategy])
    world.settings = replace(world.settings, runtime_image=image)
    world.edit(adapters=[OLD | {"distilled": {}}, GOOD])
    world.turn()
    assert world.status["revision"] == old
    style, good = world.served()["adapters"]
    assert style["distilled"] == schedule
    assert "distilled" not in good


@pytest.mark.parametrize("strategy", ROLLOUTS)
def test_a_schedule_is_for_no_other_files_of_an_earlier_release(strategy: str) -> None:
    """Its workers would render the new files' 4 steps with the old ones."""
    world, _ = serving(OLD, GOOD, rollout=ROLLOUTS[strategy])
    world.settings = replace(world.settings, runtime_image="wan-runtime:new")
    world.edit(adapters=[NEW | {"distilled": {}}, GOOD])
    world.turn()
    served = world.served()["adapters"]
    assert not any("distilled" in each for each in served)
    told = [each["name"] for each in served]
    assert told == ["style", "good"]
    if strategy == "Surge":
        world.roll()
        hears(world, worker(world.running("worker"), usable=("good", "style")))
        world.turn(60)
        assert world.served()["adapters"][0]["distilled"] == {"steps": 4, "shift": 5.0}
