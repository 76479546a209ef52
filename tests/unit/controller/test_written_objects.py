"""Resources and children of an earlier commit are reconciled without a new attempt or pod."""

from __future__ import annotations

import copy
import itertools
import json
from datetime import datetime
from typing import Any

import pytest

import written_before
from unit.controller import service_world
from unit.controller.test_service_import import end as end_import
from unit.controller.world import World
from wan_operator.resources.labels import SPEC_HASH, content_hash
from wan_operator.resources.pods import STORAGE, as_before
from wan_runtime.contract.job import ExitClass, Progress
from wan_runtime.contract.report import ServiceReport

Raw = dict[str, Any]
FINETUNES = (
    "lora-2.2 training", "full-2.2 training", "all-fields training", "lora-2.2 finished",
    "small stopped",
)  # fmt: skip
FROM_THE_START = {"importing": "ImportingModel"}
"""Reasons of `Ready` that were those of workers which nothing had made yet."""
CHANGED = ("PodDisruptionBudget",)
"""Kinds of which an upgrade changes those that are there; none is or makes a pod."""
SERVICES = ("importing", "imported", "running", "canary", "all-fields")


def restored(name: str) -> World:
    """A fine-tune in a cluster that the new operator comes to."""
    state = written_before.read("finetunes")[name]
    world = World()
    world.at_once = 2
    world.cr, world.jobs, world.pods = state["cr"], state["jobs"], state["pods"]
    world.config_maps = state["configMaps"]
    world.answers = {id: Progress.model_validate(page) for id, page in state["pages"].items()}
    world.now = datetime.fromisoformat(state["now"])
    world._uids = itertools.count(1000)
    return world


def restored_service(name: str) -> service_world.World:
    """As `restored`, with what the API server stored before `Spaced` was the default."""
    state = written_before.read("services")[name]
    acceleration = state["cr"]["spec"].setdefault("acceleration", {})
    assert "stepCache" not in acceleration
    acceleration["stepCache"] = "EasyCache"
    world = service_world.World(state["cr"])
    world.objects = {(each["kind"], each["name"]): each["object"] for each in state["objects"]}
    world.finetunes = state["finetunes"]
    report = state["report"]
    world.report = None if report is None else ServiceReport.model_validate(report)
    world.now = datetime.fromisoformat(state["now"])
    world._numbers = 1000
    return world


def without_texts(status: Raw) -> Raw:
    """A status without its sentences, and without the planner's figures: they follow what has been
    measured since."""
    conditions = [
        {name: each.get(name) for name in ("type", "status", "reason", "lastTransitionTime")}
        for each in status["conditions"]
    ]
    plain = {
        name: value
        for name, value in status.items()
        if not isinstance(value, str) and name not in ("conditions", "steps", "lastFailure")
    }
    steps = [
        {name: value for name, value in step.items() if name != "message"}
        for step in status.get("steps", [])
    ]
    if "effective" in plain:
        plain["effective"] = {n: v for n, v in plain["effective"].items() if n != "plan"}
    if "rollout" in plain:
        plain["rollout"] = {n: v for n, v in plain["rollout"].items() if n != "message"}
    return {**plain, "conditions": conditions, "steps": steps}


def old_form(item: Raw) -> Raw:
    """What was made since the upgrade, without what is new in pods and budgets; with the hash that
    it would have."""
    item = copy.deepcopy(item)
    if "worker.json" in item.get("data", {}):
        template = json.loads(item["data"]["worker.json"])
        *_, template["spec"] = as_before(template["spec"])
        item["data"]["worker.json"] = json.dumps(template, sort_keys=True)
        content: Raw = {"data": item["data"]}
    elif "template" in item.get("spec", {}):
        pod = item["spec"]["template"]["spec"]
        *_, item["spec"]["template"]["spec"] = as_before(pod)
        content = item["spec"] if "completions" in item["spec"] else {"spec": item["spec"]}
    elif item.get("spec", {}).pop("unhealthyPodEvictionPolicy", None):
        content = {"spec": item["spec"]}
    else:
        return item
    item["metadata"]["annotations"][SPEC_HASH] = content_hash(content)
    return item


def wanted(item: Raw) -> Raw:
    """What a manifest asks for; without the job file, whose form may change."""
    metadata = item["metadata"]
    data = {name: text for name, text in item.get("data", {}).items() if name != "job.json"}
    about = {name: metadata.get(name) for name in ("name", "labels", "annotations")}
    return {**about, "spec": item.get("spec"), "data": data}


@pytest.mark.parametrize("name", FINETUNES)
def test_a_fine_tune_stays_as_it_is(name: str) -> None:
    world = restored(name)
    jobs, maps, pods = (copy.deepcopy(each) for each in (world.jobs, world.config_maps, world.pods))
    status = without_texts(world.status)
    world.settle()
    assert world.created == []
    assert (world.jobs, world.config_maps, world.pods) == (jobs, maps, pods)
    assert without_texts(world.status) == status


def test_a_fine_tune_ends_as_it_would_have() -> None:
    """Its later Jobs have the names and pods that the old operator gave them."""
    world, before = restored("lora-2.2 training"), restored("lora-2.2 finished")
    done = set(world.jobs)
    while not world.is_final:
        world.settle()
        for name in world.running_jobs():
            world.starts(name)
            world.ends(ExitClass.DONE, name=name)
    assert world.created == ["demo-train-low-noise-1", "demo-export-1"]
    assert world.jobs.keys() == before.jobs.keys()
    for name, job in world.jobs.items():
        new = name not in done
        requests = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
        assert (STORAGE in requests) == new, name
        assert wanted(old_form(job) if new else job) == wanted(before.jobs[name])
    assert world.config_maps.keys() == before.config_maps.keys()
    old, new = without_texts(before.status), without_texts(world.status)
    assert new == old


@pytest.mark.parametrize("name", ["lora-2.2 training", "small stopped"])
def test_a_lost_pod_makes_the_next_attempt(name: str) -> None:
    world = restored(name)
    (lost,) = world.running_jobs()
    world.loses_pod(lost)
    world.settle()
    world.passes(3600)
    world.settle()
    head, _, number = lost.rpartition("-")
    assert world.created == [f"{head}-{int(number) + 1}"]
    assert world.jobs[lost]["metadata"]["uid"], "the old one's log stays"


PARALLELISM = {"all-fields": "Native: CFG 2 x Ulysses 1", "canary": ""}
"""Of the canary it is written once its rollout is through."""


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_stays_as_it_is(name: str) -> None:
    world = restored_service(name)
    before, status = copy.deepcopy(world.objects), copy.deepcopy(world.status)
    for each in status["conditions"]:
        if each["type"] == "Ready":
            each["reason"] = FROM_THE_START.get(name, each["reason"])
    world.turn()
    world.turn()
    now = {
        key: old_form(each) if key[0] in CHANGED else each for key, each in world.objects.items()
    }
    without_gateways(now, before, name)
    assert same_objects(now, before)
    said = world.status["effective"].pop("parallelism")
    assert said == PARALLELISM.get(name, "one GPU"), "is new"
    assert world.status.get("rollout", {}).pop("progress", None) is None or name == "canary"
    assert without_texts(world.status) == without_texts(status)
    assert world.status.get("revision") == status.get("revision")


def without_gateways(
    now: dict[tuple[str, str], Raw], before: dict[tuple[str, str], Raw], name: str
) -> None:
    """Leaves out gateways that are told more than before, if that is all that is new: several GPUs
    a worker, and what the workers of another revision have."""
    if name not in ("all-fields", "canary"):
        return
    files = ("ConfigMap", "demo-gateway"), ("Deployment", "demo-gateway")
    (new, _), (old, _) = ([each.pop(key) for key in files] for each in (now, before))
    said, stood = (json.loads(each["data"]["service.json"]) for each in (new, old))
    if name == "all-fields":
        assert said.pop("gpus") == 2
    else:
        (beside,) = said.pop("others")
        assert beside["defaults"] == stood["defaults"], "the canary's, which all were told of"
        stood["defaults"] = said["defaults"]
        judged_since(now, before)
    assert said == stood


def judged_since(now: dict[tuple[str, str], Raw], before: dict[tuple[str, str], Raw]) -> None:
    """Leaves out the canary's share, if all that is new is since when the canary is judged."""
    shares = (each.pop(("ConfigMap", "demo-rollout")) for each in (now, before))
    new, old = (json.loads(each["data"]["rollout.json"]) for each in shares)
    assert new.pop("begun")
    assert new.pop("number") > old.pop("number")
    assert new == old


def test_an_import_ends_in_the_workers_that_it_would_have() -> None:
    world, before = restored_service("importing"), restored_service("imported")
    end_import(world, 1, ExitClass.DONE)
    world.settle()
    assert STORAGE in str(world.objects["Deployment", "videos-worker"])
    now = {key: old_form(each) for key, each in world.objects.items()}
    assert same_objects(now, before.objects)
    assert world.condition("Ready")[:2] == ("True", "Serving")


def same_objects(now: dict[tuple[str, str], Raw], before: dict[tuple[str, str], Raw]) -> bool:
    """Fails with what differs."""
    assert now.keys() == before.keys()
    for key, item in now.items():
        assert wanted(item) == wanted(before[key]), key
    return True
