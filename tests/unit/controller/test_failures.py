"""What an attempt that failed costs, and what is done about it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from unit.controller.world import SETTINGS, STEPS, World
from wan_runtime.contract.job import ExitClass

FINAL = [
    *itertools.product([ExitClass.NUMERICAL], STEPS),
    *itertools.product([ExitClass.INPUT], STEPS[1:]),
]


@pytest.mark.parametrize(("exit_class", "step"), FINAL)
def test_what_a_retry_cannot_help_fails_at_once(step: str, exit_class: ExitClass) -> None:
    world = World()
    world.reach(step)
    world.ends(exit_class, "clip 7 has 3 frames")
    decision = world.settle()
    assert world.is_true("Failed")
    assert world.is_true("Stalled")
    failed = world.condition("Failed")
    assert failed is not None
    assert "clip 7 has 3 frames" in failed["message"]
    assert world.status["lastFailure"]["exitCode"] == int(exit_class)
    assert world.step(step)["state"] == "Failed"
    assert decision.requeue_after is None
    assert world.created[-1] == f"demo-{step}-1"
    assert f"demo-{step}-1" in world.jobs, "the logs of the failed pod must stay"


def test_a_refused_dataset_says_so_in_its_own_condition() -> None:
    world = World()
    world.settle()
    world.ends(ExitClass.INPUT)
    world.settle()
    refused = world.condition("DatasetReady")
    assert refused is not None
    assert (refused["status"], refused["reason"]) == ("False", "ClipInvalid")


@pytest.mark.parametrize("step", STEPS)
def test_infrastructure_failures_are_retried_until_the_budget_is_spent(step: str) -> None:
    world = World(retries={"infrastructure": 2})
    world.reach(step)
    for attempt in (1, 2):
        world.ends(ExitClass.INFRASTRUCTURE, "minio does not answer")
        decision = world.settle()
        assert world.leading == ("Reconciling", "StoreUnreachable")
        reconciling = world.condition("Reconciling")
        assert reconciling is not None
        said = f"Attempt {attempt + 1} (retry {attempt} of 2) starts at"
        assert said in reconciling["message"]
        assert decision.requeue_after is not None
        assert not world.running_jobs(), "back-off comes first"
        world.passes(decision.requeue_after)
        world.settle()
        assert world.open_job == f"demo-{step}-{attempt + 1}"
    world.ends(ExitClass.INFRASTRUCTURE, "minio does not answer")
    world.settle()
    assert world.is_true("Failed")
    failed = world.condition("Failed")
    assert failed is not None
    assert "all 2 retries are used up" in failed["message"]
    assert world.step(step)["attempts"] == 3


def test_back_off_doubles_up_to_five_minutes_and_is_the_same_when_asked_twice() -> None:
    world = World(retries={"infrastructure": 20})
    world.settle()
    waits = []
    for _ in range(10):
        world.ends(ExitClass.INFRASTRUCTURE)
        decision = world.settle()
        assert decision == world.decide()
        assert decision.requeue_after is not None
        waits.append(decision.requeue_after)
        world.passes(decision.requeue_after)
        world.settle()
    assert 8 <= waits[0] <= 13
    assert 16 <= waits[1] <= 25
    assert all(240 <= wait <= 361 for wait in waits[6:])
    assert len(set(waits[6:])) > 1, "attempts are spread"


def test_out_of_memory_has_a_budget_of_its_own() -> None:
    world = World()
    world.reach("train")
    world.ends(ExitClass.OUT_OF_MEMORY)
    world.settle()
    assert world.is_true("Failed"), "no retry by default"

    world = World(retries={"outOfMemory": 1, "infrastructure": 0})
    world.reach("train")
    world.ends(ExitClass.OUT_OF_MEMORY)
    decision = world.settle()
    assert world.leading == ("Reconciling", "GPUOutOfMemory")
    world.passes(decision.requeue_after or 0)
    world.settle()
    assert world.open_job == "demo-train-2"
    assert world.step("train")["outOfMemoryRetries"] == 1


def test_a_stop_with_a_checkpoint_costs_no_retry() -> None:
    world = World(retries={"infrastructure": 0, "outOfMemory": 0})
    world.reach("train")
    for attempt in range(2, 8):
        world.starts()
        world.ends(ExitClass.STOPPED)
        world.settle()
        assert world.open_job == f"demo-train-{attempt}"
    assert world.step("train")["infrastructureRetries"] == 0
    kept = sorted(name for name in world.jobs if name.startswith("demo-train-"))
    assert kept == ["demo-train-4", "demo-train-5", "demo-train-6", "demo-train-7"], "old ones go"


def test_messages_number_attempts_as_the_jobs_are_numbered() -> None:
    world = World(retries={"infrastructure": 2})
    world.reach("train")
    world.starts()
    world.ends(ExitClass.STOPPED)  # which uses no retry, and a number
    world.settle()
    world.ends(ExitClass.INFRASTRUCTURE, "minio does not answer")
    decision = world.settle()
    reconciling = world.condition("Reconciling")
    assert reconciling is not None
    assert "Attempt 3 (retry 1 of 2) starts at" in reconciling["message"]
    assert decision.requeue_after is not None
    world.passes(decision.requeue_after)
    world.settle()
    assert world.open_job == "demo-train-3"


def test_a_pod_that_is_stopped_as_soon_as_it_starts_does_not_spin() -> None:
    world = World()
    world.reach("train")
    world.ends(ExitClass.STOPPED)
    terminated = world.pods["demo-train-1"]["status"]["containerStatuses"][0]["state"]["terminated"]
    terminated["startedAt"] = terminated["finishedAt"]
    decision = world.settle()
    assert decision.requeue_after == SETTINGS.retry_base_seconds
    assert not world.running_jobs()


LOSSES: dict[str, Any] = {
    "PodLost": lambda world: world.loses_pod(),
    "PodEvicted": lambda world: world.evicts(),
    "JobLost": lambda world: world.loses_job(),
    "ContainerFailed": lambda world: world.exits(1, "Traceback: x"),
    "ResultMissing": lambda world: world.exits(0, "not a result"),
}


@pytest.mark.parametrize("reason", LOSSES)
@pytest.mark.parametrize("step", STEPS)
def test_what_ends_without_a_result_is_tried_again(step: str, reason: str) -> None:
    world = World()
    world.reach(step)
    world.starts()
    world.settle()
    LOSSES[reason](world)
    decision = world.settle()
    assert world.leading == ("Reconciling", reason)
    assert world.step(step)["infrastructureRetries"] == 1
    world.passes(decision.requeue_after or 0)
    world.settle()
    assert world.open_job == f"demo-{step}-2"


def test_without_a_result_the_end_of_the_log_is_told() -> None:
    world = World()
    world.settle()
    world.starts()
    world.exits(1, "Traceback\n" * 100 + "ImportError: no module named wan")
    world.settle()
    [message] = [c["message"] for c in world.status["conditions"] if c["type"] == "Reconciling"]
    assert "ImportError: no module named wan" in message


def test_the_kernels_kill_is_out_of_memory() -> None:
    world = World()
    world.reach("encode")
    [container] = world.pods["demo-encode-1"]["spec"]["containers"]
    container["resources"] = {"limits": {"memory": "3Gi"}}
    world.exits(137, reason="OOMKilled")
    world.settle()
    failed = world.condition("Failed")
    assert failed is not None
    assert failed["reason"] == "HostOutOfMemory"
    assert "memory limit, 3Gi: raise spec.resources.memory" in failed["message"]


def test_a_result_of_another_step_or_class_is_none() -> None:
    world = World()
    world.settle()
    wrong = {"stepId": "train", "exitClass": 0, "reason": "Completed"}
    world.exits(0, json.dumps(wrong))
    world.settle()
    assert world.leading == ("Reconciling", "ResultMissing")
    world = World()
    world.settle()
    world.exits(0, json.dumps({"stepId": "prepare", "exitClass": 10, "reason": "ClipInvalid"}))
    world.settle()
    assert world.leading == ("Reconciling", "ResultMissing")


def test_an_export_without_a_manifest_is_no_success() -> None:
    world = World()
    world.reach("export")
    world.exits(0, json.dumps({"stepId": "export", "exitClass": 0, "reason": "Completed"}))
    world.settle()
    assert world.leading == ("Reconciling", "ResultMissing")


def test_the_next_attempt_prefers_another_node() -> None:
    world = World()
    world.settle()
    world.evicts()
    decision = world.settle()
    world.passes(decision.requeue_after or 0)
    world.settle()
    spec = world.jobs["demo-prepare-2"]["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    (elsewhere,) = term["preference"]["matchFields"]
    assert (elsewhere["key"], elsewhere["values"]) == ("metadata.name", ["node-1"])
    assert "affinity" not in world.jobs["demo-prepare-1"]["spec"]["template"]["spec"]


def test_a_pod_that_ended_before_its_job_was_marked_keeps_its_logs() -> None:
    world = World()
    world.settle()
    world.ends(ExitClass.INPUT)
    del world.jobs["demo-prepare-1"]["status"]  # the Job's controller is a moment late
    world.settle()
    assert world.is_true("Stalled")
    assert "deletionTimestamp" not in world.jobs["demo-prepare-1"]["metadata"]


def test_a_step_is_done_while_the_job_of_another_is_gone() -> None:
    world = World(model={"preset": "Wan2.1-I2V-Tiny", "source": {"s3": "s3://wan/models/tiny"}})
    world.settle()
    world.ends(ExitClass.DONE, name="demo-prepare-1")
    del world.jobs["demo-import-1"], world.pods["demo-import-1"]
    world.settle()
    assert world.step("prepare")["state"] == "Complete"
    assert world.leading == ("Reconciling", "JobLost")
