"""Input that is wrong: found before any GPU was held, it is waited for; an edit starts over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.world import SETTINGS, World, job_file
from wan_operator.api.v1alpha1.finetune import FIXED, FIXED_OPTIONAL
from wan_runtime.contract.job import STORE_SECRET, ExitClass, Result
from wan_runtime.contract.reasons import Reason

Edit = dict[str, Any]
IMPORTED = {"preset": "Wan2.1-I2V-Tiny", "source": {"s3": "s3://wan/models/tiny"}}
EDITS: list[Edit] = [
    {"model": IMPORTED},
    {"dataset": {"source": "s3://data/other"}},
    {"method": {"lora": {"rank": 4}}},
    {"training": {"steps": 7}},
    {"store": {"bucket": "other"}},
    {"experts": ["HighNoise"]},
    {"validation": {"samples": 0, "everySteps": 7}},
]
FAULTS = [
    (ExitClass.INPUT, Reason.DATASET_NOT_FOUND),
    (ExitClass.INPUT, Reason.MODEL_NOT_FOUND),
    (ExitClass.INFRASTRUCTURE, Reason.STORE_ACCESS_DENIED),
    (ExitClass.INFRASTRUCTURE, Reason.STORE_NOT_FOUND),
]


def refused(
    world: World, exit_class: ExitClass = ExitClass.INPUT, reason: Reason = Reason.CLIP_INVALID
) -> None:
    """The open attempt ends, and the status says so."""
    step = world.jobs[world.open_job]["metadata"]["labels"]["wan-operator.dev/step"]
    words = Result(step_id=step, exit_class=exit_class, reason=reason, message="not there")
    world.exits(int(exit_class), words.dump())
    world.settle()


def waiting(**spec: Any) -> World:
    world = World(**spec)
    world.settle()
    refused(world)
    return world


def test_every_edit_that_is_fixed_later_has_its_case() -> None:
    assert {name for edit in EDITS for name in edit} == {*FIXED, *FIXED_OPTIONAL, "validation"}


@pytest.mark.parametrize(("exit_class", "reason"), FAULTS)
def test_it_is_checked_again_at_no_cost(exit_class: ExitClass, reason: Reason) -> None:
    world = World(retries={"infrastructure": 0})
    world.settle()
    for attempt in range(2, 9):
        refused(world, exit_class, reason)
        assert world.leading == ("Stalled", reason)
        assert not world.is_true("Running")
        assert world.decide().requeue_after is not None
        assert world.decide().requeue_after <= 300
        world.passes(world.decide().requeue_after)
        world.settle()
        assert world.open_job == f"demo-prepare-{attempt}"
    assert len([each for each in world.events if each.action == "WaitForInput"]) == 1
    assert world.step("prepare").get("infrastructureRetries", 0) == 0
    world.ends(ExitClass.DONE)
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")
    assert world.step("prepare")["reason"] == world.step("prepare")["message"] == ""
    assert world.open_job == "demo-encode-1"


def test_the_cause_stays_while_it_is_checked_again() -> None:
    world = waiting()
    world.passes(80)
    world.settle()
    assert world.open_job == "demo-prepare-2"
    assert world.leading == ("Stalled", "ClipInvalid")
    world.starts()
    world.settle()
    assert world.leading == ("Stalled", "ClipInvalid")
    assert world.is_true("Running")
    dataset = world.condition("DatasetReady")
    assert dataset is not None
    assert (dataset["status"], dataset["reason"]) == ("False", "ClipInvalid")
    world.passes(31)  # longer than the check that found it
    world.settle()
    assert world.leading == ("Running", "StepRunning")


def test_a_long_check_has_long_pauses() -> None:
    world = World()
    world.settle()
    pauses = []
    for _ in range(5):
        refused(world)  # after 60 s
        pauses.append(world.decide().requeue_after or 0.0)
        world.passes(pauses[-1])
        world.settle()
    low, high = 0.8 * 60 - 1, 1.2 * 60 + 1
    for pause, times in zip(pauses, (1, 2, 3, 4, 4), strict=True):
        assert times * low < pause < times * high


def test_one_that_another_step_runs_beside_is_no_standstill() -> None:
    world = World(model=IMPORTED)
    world.settle()
    world.starts("demo-import-1")
    refused(world)
    assert world.leading == ("Reconciling", "ClipInvalid")
    assert world.is_true("Running")
    world.ends(ExitClass.DONE, name="demo-import-1")
    world.settle()
    assert world.leading == ("Stalled", "ClipInvalid")


@pytest.mark.parametrize(
    ("store", "named"),
    [
        ({"secretRef": {"name": "ours"}}, "Secret ours (spec.store.secretRef)"),
        ({"prefix": "runs"}, "Secret minio (the Helm value store.secretName)"),
    ],
)
def test_the_secret_of_the_store_is_named(store: Edit, named: str) -> None:
    world = World(store=store)
    world.settle()
    said = f"no access: correct accessKey in {STORE_SECRET}"
    words = Result(
        step_id="prepare",
        exit_class=ExitClass.INFRASTRUCTURE,
        reason=Reason.STORE_ACCESS_DENIED,
        message=said,
    )
    world.exits(30, words.dump())
    world.settle()
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert f"correct accessKey in {named}. It is checked again" in stalled["message"]
    assert world.status["lastFailure"]["message"].endswith(named)


@pytest.mark.parametrize(
    "mend",
    [
        {"store_bucket": "wan"},
        {"store_prefix": "team"},
        {"store_endpoint": "http://minio:9001"},
        {"store_secret": "right"},
        {"store_region": "eu-central-1"},
    ],
)
def test_a_value_of_the_operator_that_is_mended_is_acted_on_at_once(mend: Edit) -> None:
    world = World(replace(SETTINGS, store_bucket="wna"))
    world.settle()
    refused(world, ExitClass.INFRASTRUCTURE, Reason.STORE_NOT_FOUND)
    world.settings = replace(world.settings, **mend)
    world.settle()
    assert world.open_job == "demo-prepare-2"
    fresh = World(world.settings)
    fresh.settle()
    assert job_file(world, "prepare") == job_file(fresh, "prepare")
    assert world.status["effective"] == fresh.status["effective"]
    writes = world.writes
    world.settle()
    assert world.writes == writes


def test_what_the_api_server_refuses_then_is_not_asked_for_without_a_pause() -> None:
    world = World(SETTINGS, model=IMPORTED)
    world.settle()
    world.starts("demo-import-1")
    refused(world)
    world.settings = replace(SETTINGS, store_secret="right")
    world.refuses["demo-prepare-2"] = "exceeded quota: team"
    world.settle()
    due = world.step("prepare")["nextAttemptTime"]
    world.passes(9)
    world.settle()
    assert world.step("prepare")["nextAttemptTime"] == due
    assert world.step("prepare")["reason"] == "RequestRefused"
    world.refuses.clear()
    world.passes(25)
    world.settle()
    assert world.open_job == "demo-prepare-2"


def test_a_container_that_only_ends_like_one_has_failed() -> None:
    world = World()
    world.settle()
    world.exits(int(ExitClass.INPUT), "Traceback")
    world.settle()
    assert world.is_true("Failed")


def test_it_keeps_its_deadline() -> None:
    world = waiting(activeDeadlineSeconds=3600)
    world.passes(3600)
    world.settle()
    assert world.is_true("Failed")
    assert world.leading == ("Failed", "DeadlineExceeded")


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("state", ["waits", "runs", "suspended", "done"])
def test_an_edit_starts_over_with_what_is_wanted_now(edit: Edit, state: str) -> None:
    model = IMPORTED | {"preset": "Wan2.2-I2V-Tiny"}
    world = World(model=model, store={"bucket": "first"})
    world.settle()
    if state == "waits":
        refused(world)
    elif state == "runs":
        world.starts("demo-prepare-1")
        world.settle()
    elif state == "suspended":
        refused(world)
        world.edit(suspend=True)
    else:
        world.ends(ExitClass.DONE, name="demo-prepare-1")
        world.settle()
        assert world.step("prepare")["state"] == "Complete"
    world.edit(**edit)
    world.settle()
    world.removes_deleted()
    world.edit(suspend=False)
    world.settle()
    assert world.step("prepare")["state"] == "Running"
    assert world.open_job == "demo-prepare-2"
    assert "artifact" not in world.step("prepare")
    fresh = World(**(world.cr["spec"]))
    fresh.settle()
    assert job_file(world, "prepare") == job_file(fresh, "prepare")
    assert [each["name"] for each in world.status["steps"]] == [
        each["name"] for each in fresh.status["steps"]
    ]
    assert world.status["effective"] == fresh.status["effective"]


def test_an_edit_that_came_while_the_encoding_was_started_stops_it() -> None:
    world = World()
    world.reach("encode")
    world.edit(dataset={"source": "s3://data/other"})
    world.settle()
    world.removes_deleted()
    world.settle()
    assert world.open_job == "demo-prepare-2"
    assert world.step("encode")["state"] == "Waiting"
    assert "demo-encode-1" not in world.jobs


def test_what_has_trained_is_never_started_over() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    world.edit(training={"steps": 7})
    world.settle()
    assert world.open_job == "demo-train-1"


def test_a_run_of_an_earlier_release_goes_on() -> None:
    world = World()
    world.settle()
    world.starts()
    del world.cr["status"]["specSha256"]
    world.settle()
    assert world.created == ["demo-prepare-1"]
    assert world.status["specSha256"]
    writes = world.writes
    world.settle()
    assert world.writes == writes


def test_a_warm_up_that_is_longer_than_the_run_is_refused_before_a_gpu() -> None:
    schedule = {"type": "Cosine", "warmupSteps": 61}
    world = World(training={"epochs": 2, "datasetRepeat": 10, "schedule": schedule})
    world.settle()
    world.ends(ExitClass.DONE, summary={"trainWindows": 3})
    world.settle()
    assert world.leading == ("Stalled", "WarmUpTooLong")
    assert world.status["conditions"][0]["message"].startswith(
        "spec.training.schedule.warmupSteps is 61, more than the 60 that the run has"
    )
    assert not world.running_jobs()
    world.edit(training={"epochs": 2, "schedule": schedule | {"warmupSteps": 60}})
    world.settle()
    world.ends(ExitClass.DONE, summary={"trainWindows": 3})
    world.settle()
    assert world.open_job == "demo-encode-1"


def test_a_run_that_did_not_fit_starts_once_it_is_smaller() -> None:
    large = {"preset": "Wan2.1-I2V-14B-720P", "source": {"s3": "s3://wan/models/14b"}}
    world = World(
        model=large,
        dataset={"source": "s3://data/clips", "frames": 81, "width": 1280, "height": 720},
        podTemplate={"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40"}},
    )
    world.settle()
    assert world.leading == ("Stalled", "DoesNotFit")
    world.edit(model={"preset": "Wan2.1-I2V-Tiny"}, dataset={"source": "s3://data/clips"})
    world.settle()
    assert world.open_job == "demo-prepare-1"
    world.edit(
        model=large,
        dataset={"source": "s3://data/clips", "frames": 81, "width": 1280, "height": 720},
    )
    world.settle()
    world.removes_deleted()
    world.settle()
    assert world.leading == ("Stalled", "DoesNotFit")
    assert not world.running_jobs()
