"""The whole life of a WanFineTune, decision by decision."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.controller.world import SETTINGS, START, STEPS, UID, Crash, World
from wan_operator.reconcile.finetune import needs_look, progress_address
from wan_operator.reconcile.observed import Observed
from wan_operator.settings import Settings
from wan_runtime.job import ExitClass, JobSpec, Progress


def job_file(world: World, step: str) -> JobSpec:
    return JobSpec.model_validate_json(world.config_maps[f"demo-{step}"]["data"]["job.json"])


def test_goes_from_step_to_step_and_hands_on_what_each_committed() -> None:
    world = World()
    for step in STEPS:
        world.settle()
        assert world.open_job == f"demo-{step}-1"
        world.starts()
        world.settle()
        assert world.leading == ("Running", "StepRunning")
        assert world.condition("Reconciling") is None
        world.ends(ExitClass.DONE)
    world.settle()
    assert world.leading == ("Complete", "Completed")
    assert [c["type"] for c in world.status["conditions"]] == [
        "Complete",
        "DatasetReady",
        "Running",
    ]
    assert world.status["artifact"]["uri"] == "s3://wan/export/manifest.json"
    assert world.status["progress"]["display"] == "done"
    assert set(job_file(world, "export").inputs) == {"prepare", "encode", "train"}
    assert world.created == [f"demo-{step}-1" for step in STEPS]


def test_both_experts_train_one_after_the_other_then_samples_are_rendered() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, validation={"samples": 2})
    for _ in range(10):
        world.settle()
        if world.is_final:
            break
        world.starts()
        world.ends(ExitClass.DONE)
    assert world.created == [
        f"demo-{step}-1"
        for step in ("prepare", "encode", "train-high-noise", "train-low-noise", "export", "sample")
    ]
    assert job_file(world, "train-low-noise").expert == "LowNoise"


def test_one_expert_of_a_pair_keeps_its_name() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, experts=["LowNoise"])
    world.settle()
    assert [step["name"] for step in world.status["steps"]] == [
        "prepare",
        "encode",
        "train-low-noise",
        "export",
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("exit_class", [ExitClass.INPUT, ExitClass.NUMERICAL])
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
    assert decision.look_again_after is None
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
        assert f"Attempt {attempt + 1} of 3 starts at" in reconciling["message"]
        assert decision.look_again_after is not None
        assert not world.running_jobs(), "back-off comes first"
        world.passes(decision.look_again_after)
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
        assert decision.look_again_after is not None
        waits.append(decision.look_again_after)
        world.passes(decision.look_again_after)
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
    world.passes(decision.look_again_after or 0)
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


def test_a_pod_that_is_stopped_as_soon_as_it_starts_does_not_spin() -> None:
    world = World()
    world.reach("train")
    world.ends(ExitClass.STOPPED)
    terminated = world.pods["demo-train-1"]["status"]["containerStatuses"][0]["state"]["terminated"]
    terminated["startedAt"] = terminated["finishedAt"]
    decision = world.settle()
    assert decision.look_again_after == SETTINGS.retry_base_seconds
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
    world.passes(decision.look_again_after or 0)
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
    world.exits(137, reason="OOMKilled")
    world.settle()
    failed = world.condition("Failed")
    assert failed is not None
    assert failed["reason"] == "HostOutOfMemory"


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
    world.passes(decision.look_again_after or 0)
    world.settle()
    spec = world.jobs["demo-prepare-2"]["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    (elsewhere,) = term["preference"]["matchFields"]
    assert (elsewhere["key"], elsewhere["values"]) == ("metadata.name", ["node-1"])
    assert "affinity" not in world.jobs["demo-prepare-1"]["spec"]["template"]["spec"]


CAUSES = [
    ("ErrImagePull", "rpc error: not found", "ImagePullBackOff", "registry.example/x"),
    ("CreateContainerConfigError", 'secret "minio" not found', "SecretNotFound", '"minio"'),
    (
        "CreateContainerConfigError",
        "couldn't find key accessKey in Secret team/minio",
        "SecretNotFound",
        "accessKey",
    ),
    ("CreateContainerConfigError", 'configmap "x" not found', "ContainerConfigError", "configmap"),
    ("ContainerCreating", "", "PodStarting", "node-1"),
]


@pytest.mark.parametrize(("why", "text", "reason", "telling"), CAUSES)
def test_the_deepest_cause_of_waiting_is_told(
    why: str, text: str, reason: str, telling: str
) -> None:
    world = World()
    world.settle()
    world.waits(why, text)
    decision = world.settle()
    assert world.leading == ("Reconciling", reason)
    assert telling in world.status["conditions"][0]["message"]
    assert decision.look_again_after == 30
    world.starts()
    world.settle()
    assert world.leading == ("Running", "StepRunning"), "healed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "Unschedulable"),
        ('persistentvolumeclaim "models" not found', "VolumePending"),
    ],
)
def test_the_schedulers_words_are_passed_on(text: str, reason: str) -> None:
    world = World()
    world.settle()
    refused = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": text,
    }
    world.pods["demo-prepare-1"]["status"]["conditions"] = [refused]
    world.settle()
    assert world.leading == ("Reconciling", reason)
    assert world.status["conditions"][0]["message"] == text


def test_a_job_without_a_pod_is_told_after_a_minute_and_a_queued_one_at_once() -> None:
    world = World()
    world.settle()
    del world.pods["demo-prepare-1"]
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")
    world.passes(61)
    world.settle()
    assert world.leading == ("Reconciling", "PodNotCreated")
    world.jobs["demo-prepare-1"]["spec"]["suspend"] = True
    world.settle()
    assert world.leading == ("Reconciling", "Queued")


def test_a_silent_node_is_told_and_its_pod_is_not_doubled() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.pods["demo-train-1"]["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.passes(600)
    world.settle()
    assert world.leading == ("Reconciling", "NodeLost")
    assert world.open_job == "demo-train-1"


# Suspend, deadline, TTL, edits


@pytest.mark.parametrize("step", STEPS)
def test_suspend_stops_the_attempt_and_resume_goes_on_at_no_cost(step: str) -> None:
    world = World(retries={"infrastructure": 0})
    world.reach(step)
    world.starts()
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert world.leading == ("Reconciling", "Suspending")
    assert world.jobs[f"demo-{step}-1"]["metadata"].get("deletionTimestamp")
    world.passes(30)
    world.ends(ExitClass.STOPPED, name=f"demo-{step}-1")
    world.removes_deleted()
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    assert not world.is_true("Failed")
    world.passes(3600)
    assert world.settle().look_again_after is None, "nothing to do but wait for the user"
    world.edit(suspend=False)
    world.settle()
    assert world.open_job == f"demo-{step}-2"
    assert world.status["suspendedSeconds"] == 3630
    assert "suspendedSince" not in world.status


def test_resuming_before_the_pod_has_ended_waits_for_it_and_costs_nothing() -> None:
    world = World(retries={"infrastructure": 0})
    world.reach("train")
    world.starts()
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()
    assert world.created[-1] == "demo-train-1", "never two at a time"
    world.removes_deleted()
    world.settle()
    assert world.open_job == "demo-train-2"


def test_a_step_that_ends_well_while_it_is_suspended_is_done() -> None:
    world = World()
    world.reach("encode")
    world.starts()
    world.edit(suspend=True)
    world.settle()
    world.ends(ExitClass.DONE, name="demo-encode-1")
    world.settle()
    assert world.step("encode")["state"] == "Complete"
    assert world.leading == ("Suspended", "SuspendedByUser")


def test_created_suspended_nothing_starts() -> None:
    world = World(suspend=True, activeDeadlineSeconds=60)
    world.settle()
    assert not world.created
    world.passes(3600)
    world.edit(suspend=False)
    world.settle()
    assert world.created == ["demo-prepare-1"]
    assert world.status["suspendedSeconds"] == 0, "the run had not begun"


def test_the_deadline_fails_the_run_and_stops_its_job() -> None:
    world = World(activeDeadlineSeconds=100)
    world.reach("train")
    world.starts()
    world.passes(60)
    decision = world.settle()
    assert decision.look_again_after is not None
    assert decision.look_again_after <= 40
    world.passes(40)
    world.settle()
    assert world.is_true("Failed")
    failed = world.condition("Failed")
    assert failed is not None
    assert failed["reason"] == "DeadlineExceeded"
    assert not world.running_jobs()


def test_suspended_time_does_not_count_against_the_deadline() -> None:
    world = World(activeDeadlineSeconds=100)
    world.reach("train")
    world.starts()
    world.edit(suspend=True)
    world.settle()
    world.removes_deleted()
    world.settle()
    world.passes(5000)
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    world.edit(suspend=False)
    world.settle()
    world.passes(99)
    world.settle()
    assert not world.is_true("Failed")
    world.passes(1)
    world.settle()
    assert world.is_true("Failed")


def finished_world(**spec: Any) -> World:
    world = World(**spec)
    world.reach("export")
    world.ends(ExitClass.DONE)
    world.settle()
    assert world.is_true("Complete")
    return world


def test_the_ttl_removes_the_children_and_not_the_resource() -> None:
    world = finished_world(ttlSecondsAfterFinished=600)
    assert world.decide().look_again_after == 600
    world.passes(600)
    before = dict(world.status)
    world.settle()
    assert not world.jobs
    assert not world.config_maps
    assert world.status == before
    world.settle()
    assert len(world.created) == 4, "removed children do not come back"


def test_final_is_final() -> None:
    world = finished_world()
    before = dict(world.status)
    world.edit(validation={"samples": 4}, suspend=True, retries={"infrastructure": 1})
    world.settle()
    assert world.status == {**before, "observedGeneration": 2}
    assert len(world.created) == 4
    failed = World()
    failed.settle()
    failed.ends(ExitClass.INPUT)
    failed.settle()
    before = dict(failed.status)
    failed.edit(suspend=True)
    failed.settle()
    assert failed.status == {**before, "observedGeneration": 2}


def test_an_edit_that_takes_a_running_step_out_of_the_plan_stops_it() -> None:
    world = World(validation={"samples": 1})
    world.reach("sample")
    world.starts()
    world.settle()
    world.edit(validation={"samples": 0})
    world.settle()
    assert world.is_true("Complete")
    assert not world.running_jobs()


def test_an_edit_of_a_running_attempts_settings_waits_for_the_next() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    before = job_file(world, "train")
    world.edit(checkpoint={"everySteps": 7})
    world.settle()
    assert job_file(world, "train") == before
    world.ends(ExitClass.STOPPED)
    world.settle()
    assert job_file(world, "train").training.checkpoint_every == 7


# What cannot be acted on


def test_a_store_that_nobody_names_stalls_until_the_settings_do() -> None:
    bare = Settings(runtime_image="x", namespace="wan-system", identity="test")
    world = World(bare)
    world.settle()
    assert world.leading == ("Stalled", "StoreNotConfigured")
    message = world.status["conditions"][0]["message"]
    for wanted in ("spec.store.endpoint", "store.bucket", "spec.store.secretRef.name"):
        assert wanted in message
    assert world.status["observedGeneration"] == 1
    world.settings = SETTINGS
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")
    assert world.condition("Stalled") is None


def test_the_spec_wins_over_the_settings_and_the_bucket_is_pinned() -> None:
    world = World(store={"bucket": "mine", "prefix": "p", "secretRef": {"name": "own"}})
    world.settle()
    effective = world.status["effective"]
    assert effective["store"] == {
        "endpoint": "http://minio:9000",
        "bucket": "mine",
        "prefix": "p",
        "region": "us-east-1",
        "secretName": "own",
    }
    assert effective["runPrefix"] == f"s3://mine/p/team/demo/{UID[:8]}"
    moved = World()
    moved.settle()
    moved.settings = Settings(
        runtime_image="new",
        namespace="wan-system",
        store_endpoint="http://moved:9000",
        store_bucket="other",
        store_secret="fresh",
    )
    moved.settle()
    store = moved.status["effective"]["store"]
    assert (store["bucket"], store["endpoint"], store["secretName"]) == (
        "wan",
        "http://moved:9000",
        "fresh",
    )


def test_a_resource_of_a_newer_release_stalls_in_words() -> None:
    world = World(model={"preset": "Wan3.0"})
    world.settle()
    assert world.leading == ("Stalled", "SpecInvalid")
    assert "model.preset" in world.status["conditions"][0]["message"]
    assert not world.created


def test_a_name_that_leaves_no_room_stalls() -> None:
    world = World(name="n" * 41)
    world.settle()
    assert world.leading == ("Stalled", "SpecInvalid")
    longest = World(name="n" * 40, model={"preset": "Wan2.2-I2V-Tiny"})
    for _ in range(8):
        longest.settle()
        if longest.is_final:
            break
        longest.ends(ExitClass.DONE)
    assert max(len(name) for name in longest.created) <= 59, "63, less four digits"


def test_deleted_and_disabled_resources_are_left_alone() -> None:
    world = World()
    world.cr["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.settle()
    assert world.writes == 0
    world = World()
    world.cr["metadata"]["annotations"] = {"wan-operator.dev/reconcile": "disabled"}
    world.settle()
    assert world.writes == 0


def test_waits_for_the_children_of_a_deleted_namesake() -> None:
    world = World()
    world.settle()
    for child in (*world.jobs.values(), *world.config_maps.values()):
        child["metadata"]["ownerReferences"][0]["uid"] = "somebody-else"
    del world.cr["status"]
    decision = world.settle()
    assert world.created == ["demo-prepare-1"]
    assert decision.look_again_after == 2
    assert "earlier WanFineTune" in world.status["conditions"][0]["message"]
    world.jobs.clear()
    world.config_maps.clear()
    world.pods.clear()
    world.settle()
    assert world.created == ["demo-prepare-1"] * 2


def test_a_lost_job_file_is_put_back() -> None:
    world = World()
    world.settle()
    world.config_maps.clear()
    world.settle()
    assert "demo-prepare" in world.config_maps


# Status


def test_progress_is_refreshed_no_more_often_than_the_settings_say() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    shown = []
    for step in range(1, 31):
        world.progress = Progress(
            step_id="train",
            activity="training",
            current=step,
            total=200,
            eta_seconds=250.0,
            loss=0.123456,
            updated=world.now,
        )
        world.settle()
        shown.append(world.status["progress"]["display"])
        world.passes(1)
    assert len(set(shown)) == 2, "at 0 and 15 seconds"
    progress = world.status["progress"]
    assert progress["display"].startswith("train ")
    assert progress["display"].endswith("/200")
    assert (progress["eta"], progress["loss"]) == ("4m10s", "0.1235")


def test_progress_is_asked_of_our_running_pod_and_only_when_due() -> None:
    world = World()
    world.settle()

    def address() -> str | None:
        observed = Observed(jobs=list(world.jobs.values()), pods=list(world.pods.values()))
        return progress_address(world.cr, observed, SETTINGS, world.now)

    assert address() is None, "not running"
    world.starts()
    world.passes(15)
    assert address() == "10.0.0.9"
    world.status["progress"] |= {"time": world.now.isoformat(), "activity": "checking clips"}
    assert address() is None, "just asked"
    world.passes(15)
    world.pods["demo-prepare-1"]["metadata"]["ownerReferences"][0]["uid"] = "a-strangers-job"
    assert address() is None, "a label alone does not make us call an address"


def test_transition_times_change_with_the_status_only() -> None:
    world = World()
    world.settle()
    world.passes(10)
    world.starts()
    world.settle()
    running = world.condition("Running")
    assert running is not None
    assert running["lastTransitionTime"] == "2026-11-22T12:00:10Z"
    world.passes(10)
    world.edit(checkpoint={"everySteps": 5})
    world.settle()
    running = world.condition("Running")
    assert running is not None
    assert running["lastTransitionTime"] == "2026-11-22T12:00:10Z"
    assert running["observedGeneration"] == 2


def test_ended_runs_need_no_look() -> None:
    world = World()
    assert needs_look(world.cr)
    world.settle()
    assert needs_look(world.cr)
    done = finished_world()
    assert not needs_look(done.cr)
    done.edit(suspend=True)
    assert needs_look(done.cr), "observedGeneration is behind"
    assert needs_look(finished_world(ttlSecondsAfterFinished=60).cr)


def test_events_tell_each_turn_once() -> None:
    world = World()
    world.settle()
    world.starts()
    for _ in range(3):
        world.settle()
    world.ends(ExitClass.INFRASTRUCTURE)
    world.settle()
    assert [(event.type, event.action) for event in world.events] == [
        ("Normal", "StartStep"),
        ("Warning", "RetryStep"),
    ]


# Crashes


@pytest.mark.parametrize("die_after", range(4))
def test_dying_between_any_two_calls_doubles_and_loses_nothing(die_after: int) -> None:
    world = World()

    def look_and_die() -> None:
        try:
            world.look(die_after)
        except Crash:
            world.passes(1)

    look_and_die()
    for each in STEPS:
        world.settle()
        assert world.open_job == f"demo-{each}-1"
        world.starts()
        look_and_die()
        world.settle()
        world.ends(ExitClass.DONE)
        look_and_die()  # records the end
        look_and_die()  # starts the next step
    world.settle()
    assert world.is_true("Complete")
    assert world.created == [f"demo-{each}-1" for each in STEPS]
    assert all(each["attempts"] == 1 for each in world.status["steps"])
    assert world.status["startTime"] >= START.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_pod_that_ended_before_its_job_was_marked_keeps_its_logs() -> None:
    world = World()
    world.settle()
    world.ends(ExitClass.INPUT)
    del world.jobs["demo-prepare-1"]["status"]  # the Job's controller is a moment late
    world.settle()
    assert world.is_true("Failed")
    assert "deletionTimestamp" not in world.jobs["demo-prepare-1"]["metadata"]


def test_progress_that_does_not_move_is_not_written_again() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.progress = Progress(step_id="train", activity="training", current=1, total=9)
    world.settle()
    before = world.writes
    world.passes(60)
    world.settle()
    assert world.writes == before
