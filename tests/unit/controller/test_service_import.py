"""A base model from S3 is imported before anything is served."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from unit.controller.service_world import World, example
from unit.controller.test_kueue import pending, workload
from wan_operator.reconcile.observed import Refusal
from wan_runtime.contract.job import ExitClass, ManifestRef, Result
from wan_runtime.contract.reasons import Reason

SOURCE = "s3://models/Wan2.1-I2V-14B-720P"
REASONS = {
    ExitClass.DONE: Reason.COMPLETED,
    ExitClass.INPUT: Reason.MODEL_NOT_FOUND,
    ExitClass.INFRASTRUCTURE: Reason.STORE_UNREACHABLE,
    ExitClass.OUT_OF_MEMORY: Reason.HOST_OUT_OF_MEMORY,
    ExitClass.STOPPED: Reason.TERMINATED,
    ExitClass.NUMERICAL: Reason.UNEXPECTED,
}


def service(**settings: str) -> World:
    return World(example("minimal"), **settings)


def end(world: World, number: int, exit_class: ExitClass, message: str = "said so") -> None:
    """The import's pod, with a Result as the runtime leaves it."""
    job = world.objects["Job", f"videos-model-{number}"]
    done = exit_class is ExitClass.DONE
    result = Result(
        step_id="import",
        exit_class=exit_class,
        reason=REASONS[exit_class],
        message=message,
        manifest=ManifestRef(uri=f"s3://wan/m{number}.json", sha256="c" * 64) if done else None,
    )
    ended = {
        "exitCode": int(exit_class),
        "message": result.dump(),
        "startedAt": (world.now - timedelta(seconds=60)).isoformat(),
        "finishedAt": world.now.isoformat(),
    }
    state = {"terminated": ended}
    job["status"] = {"conditions": [{"type": "Complete" if done else "Failed", "status": "True"}]}
    world.objects["Pod", f"import-{number}"] = {
        "metadata": {
            "name": f"import-{number}",
            "namespace": "team",
            "uid": f"p{number}",
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "creationTimestamp": world.now.isoformat(),
            "ownerReferences": [{"uid": job["metadata"]["uid"], "controller": True}],
        },
        "spec": {
            "nodeName": f"node-{number}",
            "containers": [{"name": "step", "image": "wan-runtime:1"}],
        },
        "status": {"containerStatuses": [{"name": "step", "state": state}]},
    }


def jobs(world: World) -> list[str]:
    return [name for kind, name in world.objects if kind == "Job"]


def test_it_is_imported_then_served() -> None:
    world = service()
    world.turn()
    assert jobs(world) == ["videos-model-1"]
    assert world.deployment("worker") is None
    assert world.condition("ModelReady")[:2] == ("False", "ImportingModel")
    told = json.loads(world.objects["ConfigMap", "videos-model"]["data"]["job.json"])
    assert (told["step"], told["model"]["source"]) == ("import", SOURCE)
    world.turn(5)
    assert jobs(world) == ["videos-model-1"], "one at a time"
    end(world, 1, ExitClass.DONE)
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition("ModelReady")[:2] == ("True", "ModelImported")
    assert world.served("worker")["imported"] == {"uri": "s3://wan/m1.json", "sha256": "c" * 64}
    assert ("ConfigMap", "videos-model") in world.objects
    del world.objects["Job", "videos-model-1"], world.objects["Pod", "import-1"]
    for _ in range(3):
        world.turn(3600)
    assert jobs(world) == [], "what was committed stays imported"
    assert world.condition("Ready")[:2] == ("True", "Serving")


def test_a_store_that_is_away_is_asked_again() -> None:
    world = service(WAN_RETRY_BASE_SECONDS="10")
    world.turn()
    world.turn(5)
    end(world, 1, ExitClass.INFRASTRUCTURE, "no route")
    world.turn()
    assert world.condition("Reconciling")[1] == "StoreUnreachable"
    assert "no route; tried again in" in world.condition("Reconciling")[2]
    world.turn(5)
    assert jobs(world) == ["videos-model-1"]
    world.turn(15)
    assert jobs(world) == ["videos-model-1", "videos-model-2"]
    end(world, 2, ExitClass.DONE)
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")


def test_a_source_without_the_model_stalls_until_it_is_another() -> None:
    world = service()
    world.turn()
    end(world, 1, ExitClass.INPUT, "no vae in there")
    world.turn()
    assert world.condition("Stalled")[:2] == ("True", "ModelNotFound")
    assert world.condition("Stalled")[2].startswith("no vae in there; tried again in ")
    model: dict[str, Any] = world.cr["spec"]["model"]
    world.edit(model=model | {"source": {"s3": "s3://models/right"}})
    world.turn()
    assert jobs(world)[-1] == "videos-model-2"
    assert world.condition("Stalled") == ("", "", "")


def test_a_model_that_is_uploaded_later_is_found() -> None:
    world = service(WAN_RETRY_BASE_SECONDS="10")
    world.turn()
    for number in (1, 2):
        end(world, number, ExitClass.INPUT, "no vae in there")
        world.turn()
        world.turn(200)  # at most twice what the last attempt took
        assert jobs(world)[-1] == f"videos-model-{number + 1}"
        assert world.condition("Stalled")[:2] == ("True", "ModelNotFound"), "while it is checked"
    assert len([each for each in world.events if "no vae in there" in each]) == 1
    end(world, 3, ExitClass.DONE)
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")


@pytest.mark.parametrize("cache", ["models", "/var/models"])
def test_workers_keep_it_where_the_settings_say(cache: str) -> None:
    world = service(WAN_MODEL_CACHE=cache)
    world.turn()
    end(world, 1, ExitClass.DONE)
    world.settle()
    found = world.deployment("worker")
    assert found is not None
    spec = found["spec"]["template"]["spec"]
    [volume] = [each for each in spec["volumes"] if each["name"] == "model-cache"]
    assert volume.get("persistentVolumeClaim", {}).get("claimName", "/var/models") == cache
    environment = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    assert environment["WAN_MODEL_CACHE"] == "/model-cache"


def pod_of(world: World, number: int) -> dict[str, Any]:
    spec: dict[str, Any] = world.objects["Job", f"videos-model-{number}"]["spec"]["template"][
        "spec"
    ]
    return spec


def test_its_job_goes_through_the_queue_that_the_service_names() -> None:
    world = service()
    world.cr["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    world.turn()
    labels = world.objects["Job", "videos-model-1"]["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "team"
    job = world.objects["Job", "videos-model-1"]
    job["spec"]["suspend"] = True
    world.workloads = None
    uid = job["metadata"]["uid"]
    assert world.look().asks_workloads == (uid,)
    world.workloads = {}
    world.turn(5)
    assert world.condition("Reconciling")[1] == "Queued"
    why = "LocalQueue team doesn't exist"
    world.workloads = {uid: workload(pending(why, "Inadmissible"))}
    world.turn(5)
    for type_ in ("Stalled", "Ready"):
        status, reason, message = world.condition(type_)
        assert (status, reason) == ("True" if type_ == "Stalled" else "False", "QueueNotFound")
        assert why in message


def test_the_next_attempt_avoids_the_node_of_the_last() -> None:
    world = service(WAN_RETRY_BASE_SECONDS="10")
    world.turn()
    end(world, 1, ExitClass.INFRASTRUCTURE)
    world.turn()
    assert "affinity" not in pod_of(world, 1)
    world.turn(20)
    assert "node-1" in json.dumps(pod_of(world, 2)["affinity"])


def test_memory_that_ran_out_has_no_last_retry_either() -> None:
    world = service(WAN_RETRY_BASE_SECONDS="10")
    world.turn()
    for number in range(1, 8):
        end(world, number, ExitClass.OUT_OF_MEMORY)
        world.turn()
        assert world.condition("Reconciling")[1] == "HostOutOfMemory"
        world.turn(400)
        assert jobs(world)[-1] == f"videos-model-{number + 1}"
    assert jobs(world) == [f"videos-model-{number}" for number in (5, 6, 7, 8)], "old ones go"


def test_a_pod_that_was_stopped_is_made_again_at_once() -> None:
    world = service()
    world.turn()
    end(world, 1, ExitClass.STOPPED)
    world.turn()
    assert jobs(world) == ["videos-model-1"], "its end is written down first"
    world.turn()
    assert jobs(world) == ["videos-model-1", "videos-model-2"]
    assert world.condition("Reconciling")[1] == "ImportingModel"


def test_what_no_retry_helps_is_not_tried_again() -> None:
    world = service()
    world.turn()
    end(world, 1, ExitClass.NUMERICAL, "not a number")
    world.turn()
    assert world.condition("Stalled") == ("True", "Unexpected", "not a number")
    assert world.condition("ModelReady")[:2] == ("False", "Unexpected")
    world.turn(3600)
    assert jobs(world) == ["videos-model-1"]


def test_events_tell_each_turn_once() -> None:
    world = service(WAN_RETRY_BASE_SECONDS="10")
    for _ in range(3):
        world.turn()
    end(world, 1, ExitClass.INFRASTRUCTURE, "no route")
    for _ in range(3):
        world.turn()
    world.turn(20)
    end(world, 2, ExitClass.INPUT, "no vae in there")
    for _ in range(3):
        world.turn()
    started, failed, again, final = world.events
    assert started == "Job videos-model-1 is making its pod"
    assert failed.startswith("model failed: no route. Attempt 2 starts at 2026-01-01T00:00:")
    assert again == "Job videos-model-2 is making its pod"
    assert final.startswith("model failed: no vae in there. It is checked again at ")
    world = service()
    world.turn()
    end(world, 1, ExitClass.DONE)
    world.turn()
    assert world.events[-1] == "the base model is at s3://wan/m1.json"


def test_an_attempt_that_the_status_missed_is_found_again() -> None:
    """The operator died after it had made the Job of the second attempt."""
    world = service(WAN_RETRY_BASE_SECONDS="10")
    world.turn()
    end(world, 1, ExitClass.INFRASTRUCTURE)
    world.turn()
    before = world.status
    world.turn(20)
    assert jobs(world) == ["videos-model-1", "videos-model-2"]
    world.cr["status"] = before
    world.turn()
    assert jobs(world) == ["videos-model-1", "videos-model-2"]
    assert world.status["baseModel"]["attempts"] == 2


def test_another_source_stops_the_import_of_the_old_one_and_never_takes_its_result() -> None:
    world = service()
    world.turn()
    world.edit(model=world.cr["spec"]["model"] | {"source": {"s3": "s3://models/right"}})
    world.turn()
    assert jobs(world) == ["videos-model-2"]
    world.turn()
    assert "artifact" not in world.status["baseModel"]


def test_it_waits_for_the_job_of_an_earlier_service_of_its_name() -> None:
    world = service()
    world.turn()
    old = world.objects["Job", "videos-model-1"]
    old["metadata"]["ownerReferences"][0]["uid"] = "another"
    del world.cr["status"]
    world.turn()
    assert "of an earlier WanInferenceService of this name" in world.condition("Reconciling")[2]
    del world.objects["Job", "videos-model-1"]
    world.turn()
    assert jobs(world) == ["videos-model-1"]
    assert world.status["baseModel"]["attempts"] == 1


def test_a_job_that_the_api_server_refuses_is_asked_for_again() -> None:
    world = service()
    world.refused = {"Job/videos-model-1": Refusal("RequestRefused", "exceeded quota")}
    decision = world.look()
    assert not [each for each in decision.children if each["kind"] == "Job"]
    world.cr["status"] = json.loads(json.dumps(decision.status))
    assert world.condition("Stalled") == ("True", "RequestRefused", "exceeded quota")
    assert decision.requeue_after is not None
    world.refused = {}
    world.turn(decision.requeue_after)
    assert jobs(world) == ["videos-model-1"]
    assert world.status["baseModel"]["attempts"] == 1


def test_a_lost_job_file_is_put_back() -> None:
    world = service()
    world.turn()
    del world.objects["ConfigMap", "videos-model"]
    world.turn()
    assert ("ConfigMap", "videos-model") in world.objects
