"""A base model from S3 is imported before anything is served."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.controller.service_world import World, example
from wan_runtime.job import ExitClass, ManifestRef, Reason, Result

SOURCE = "s3://models/Wan2.1-I2V-14B-720P"
REASONS = {
    ExitClass.DONE: Reason.COMPLETED,
    ExitClass.INPUT: Reason.MODEL_NOT_FOUND,
    ExitClass.INFRASTRUCTURE: Reason.STORE_UNREACHABLE,
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
    state = {"terminated": {"exitCode": int(exit_class), "message": result.dump()}}
    world.objects["Pod", f"import-{number}"] = {
        "metadata": {
            "name": f"import-{number}",
            "namespace": "team",
            "uid": f"p{number}",
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "creationTimestamp": world.now.isoformat(),
            "ownerReferences": [{"uid": job["metadata"]["uid"], "controller": True}],
        },
        "spec": {"containers": [{"name": "step", "image": "wan-runtime:1"}]},
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
    assert world.condition("Stalled") == ("True", "ModelNotFound", "no vae in there")
    world.turn(3600)
    assert jobs(world) == ["videos-model-1"]
    model: dict[str, Any] = world.cr["spec"]["model"]
    world.edit(model=model | {"source": {"s3": "s3://models/right"}})
    world.turn()
    assert jobs(world)[-1] == "videos-model-2"
    assert world.condition("Stalled") == ("", "", "")


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
