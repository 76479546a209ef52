"""What is removed of resources that failed or were deleted, when, and what holds it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from unit.controller.test_written_objects import restored, restored_service
from unit.controller.world import World
from wan_operator import clearing
from wan_operator.errors import PermanentError
from wan_operator.kinds import FINETUNE, SERVICE
from wan_operator.kube import Kube
from wan_operator.resources.labels import MANAGED_BY, WAITS_FOR
from wan_operator.resources.left import LABELS, left_of
from wan_operator.resources.pods import STORE_PATH
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.left import SILENCE_SECONDS, VARIABLE, Left
from wan_runtime.contract.service import ServiceSpec

Raw = dict[str, Any]
WEEK = timedelta(hours=168)


def what(job: Raw) -> Left:
    """What its pod removes."""
    left = left_of(json.loads(json.dumps(job)))
    assert left is not None
    assert "ownerReferences" not in job["metadata"]
    return left


def keys(job: Raw) -> tuple[str, ...]:
    """Folders that its pod removes."""
    left = what(job).folders
    assert left is not None
    return left.keys


def deleted(world: World) -> tuple[Raw, ...]:
    """Jobs for what a run leaves that is deleted now."""
    return FINETUNE.left(world.cr, world.settings, world.now)


def every_job(**spec: Any) -> list[Raw]:
    """For what a run and a service of these specs leave."""
    run, service = restored("full-2.2 training"), restored_service("running")
    run.cr["spec"] |= spec
    service.cr["spec"]["gateway"] |= spec
    return [
        *deleted(run),
        *SERVICE.left(service.cr, service.settings, service.now),
    ]


def whole(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def test_of_a_deleted_run_its_checkpoints_and_nothing_else() -> None:
    world = restored("full-2.2 training")
    (job,) = deleted(world)
    assert what(job).due == whole(world.now) + WEEK
    prefix = "team/demo/5c1a7e00"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert STORE_PATH in {each["mountPath"] for each in container["volumeMounts"]}
    assert keys(job) == tuple(
        f"{prefix}/{step}/{folder}/"
        for step in ("train-high-noise", "train-low-noise")
        for folder in ("checkpoints", "best")
    )
    world.cr["spec"]["checkpoint"] = {"retentionHours": 0}
    (job,) = deleted(world)
    assert what(job).due > world.now, "its pods may be writing one"


def test_the_jobs_pods_are_limited_where_a_quota_of_cpu_limits_asks_for_it() -> None:
    for limit, request in (("20m", "20m"), ("2", "50m")):
        for job in every_job(resources={"cpuLimit": limit}):
            (container,) = job["spec"]["template"]["spec"]["containers"]
            assert container["resources"]["limits"]["cpu"] == limit
            assert container["resources"]["requests"]["cpu"] == request
    for job in every_job():
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert "cpu" not in container["resources"]["limits"]


def test_the_jobs_pods_have_the_labels_and_annotations_of_the_template() -> None:
    """Admission asks for them of every pod; a mesh reads in them that it is to stay away."""
    wanted = {"team": "film", "sidecar.istio.io/inject": "false", MANAGED_BY: "somebody"}
    template = {"labels": wanted, "annotations": {"example.com/cost-centre": "7"}}
    for job in every_job(podTemplate=template):
        metadata = job["spec"]["template"]["metadata"]
        assert metadata["labels"] == wanted | LABELS, "no label of ours can be replaced"
        assert metadata["annotations"] == template["annotations"]
        assert job["metadata"]["labels"] == LABELS, "by which a sweep knows it"
        assert left_of(job) is not None


@pytest.mark.parametrize("state", ["lora-2.2 finished", ""])
def test_a_run_without_checkpoints_leaves_nothing(state: str) -> None:
    assert deleted(restored(state) if state else World()) == ()


def failed_in_training() -> World:
    world = restored("small stopped")
    (name,) = world.running_jobs()
    world.ends(ExitClass.NUMERICAL, name=name)
    world.settle()
    assert world.is_true("Failed")
    assert "checkpoint" in world.status
    return world


def test_checkpoints_of_a_failure_go_after_their_retention() -> None:
    world = failed_in_training()
    jobs = set(world.jobs)
    assert FINETUNE.needs_reconcile(world.cr)
    decision = world.settle()
    assert decision.requeue_after == pytest.approx(168 * 3600, abs=60)
    world.passes(decision.requeue_after)
    world.settle()
    (made,) = set(world.jobs) - jobs
    assert keys(world.jobs[made]) == (
        "team/demo/5c1a7e00/train-low-noise/checkpoints/",
        "team/demo/5c1a7e00/train-low-noise/best/",
    )
    assert "checkpoint" not in world.status
    assert "checkpointDeletionTime" not in world.status
    assert not FINETUNE.needs_reconcile(world.cr), "nothing is left to do"
    assert deleted(world) == ()


def test_an_edit_of_a_failed_run_keeps_its_checkpoints_for_longer() -> None:
    world = failed_in_training()
    jobs = set(world.jobs)
    world.passes(167 * 3600)
    world.cr["spec"]["checkpoint"] = {"retentionHours": 1000}
    world.cr["metadata"]["generation"] += 1
    world.settle()
    world.passes(999 * 3600)
    world.settle()
    assert set(world.jobs) == jobs
    assert "checkpoint" in world.status
    world.passes(3600)
    world.settle()
    assert len(world.jobs) == len(jobs) + 1


def test_a_failure_that_an_earlier_release_recorded_has_its_week_from_the_upgrade_on() -> None:
    world = failed_in_training()
    jobs = set(world.jobs)
    del world.cr["status"]["checkpointDeletionTime"]
    world.passes(10_000 * 3600)
    world.settle()
    assert set(world.jobs) == jobs
    due = datetime.fromisoformat(world.status["checkpointDeletionTime"])
    assert due == whole(world.now) + WEEK


def test_the_status_keeps_a_checkpoint_whose_removal_is_refused() -> None:
    world = failed_in_training()
    world.passes(169 * 3600)
    world.refuses = {"demo-5c1a7e00-clear": "exceeded quota"}
    world.look()
    assert "checkpoint" in world.status
    world.refuses = {}
    world.settle()
    assert "checkpoint" not in world.status


def test_of_a_deleted_service_what_waits_and_then_the_rest() -> None:
    world = restored_service("running")
    jobs = SERVICE.left(world.cr, world.settings, world.now)
    first, last = (what(each) for each in jobs)
    hours = world.cr["spec"].get("results", {}).get("retentionHours", 168)
    assert last.due - first.due == timedelta(hours=hours)
    drain = world.cr["status"]["effective"]["drainSeconds"]
    assert first.due > world.now + timedelta(seconds=drain + SILENCE_SECONDS)
    served = ServiceSpec.model_validate_json(json.dumps(world.served()))
    for each in (first, last):
        assert each.queue is not None
        assert (each.queue.uid, each.queue.prefix) == (served.uid, served.prefix)
    assert len({each["metadata"]["name"] for each in jobs}) == 2
    world.cr["spec"].setdefault("workers", {})["drainSeconds"] = drain + 7000
    later = what(SERVICE.left(world.cr, world.settings, world.now)[0])
    assert later.due == first.due + timedelta(seconds=7000), "workers of a rollout end theirs, too"
    world.cr["status"].pop("effective")
    assert SERVICE.left(world.cr, world.settings, world.now) == (), "it has never begun"


class Server(Kube):
    """An API server that keeps what is done."""

    def __init__(self, *live: Raw) -> None:
        self.live = live
        self.made: list[str] = []
        self.freed: list[str] = []
        self.explained: list[str] = []
        self.refused = ""

    async def get(self, key: Any) -> Raw | None:
        return next(iter(self.live), None)

    async def ensure(self, manifest: Raw) -> None:
        self.made.append(manifest["metadata"]["name"])

    async def unsuspend(self, job: Raw) -> None:
        if job["metadata"]["name"] == self.refused:
            raise PermanentError("no", "Forbidden")
        self.freed.append(job["metadata"]["name"])

    async def explain(self, job: Raw, text: str) -> None:
        job["metadata"]["annotations"] = {WAITS_FOR: text}
        self.explained.append(text)


async def made(world: World, *live: Raw) -> list[str]:
    server = Server(*live)
    await clearing.after_deletion(server, FINETUNE, world.cr, world.settings)
    return server.made


async def test_jobs_are_made_of_what_is_gone_alone() -> None:
    world = restored("full-2.2 training")
    job = ["demo-5c1a7e00-clear"]
    again = copy.deepcopy(world.cr)
    again["metadata"]["uid"] = "another"
    assert await made(world) == job
    assert await made(world, again) == job, "a run made again under the name is another"
    assert await made(world, world.cr) == [], "the watch was wrong"
    world.cr["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert await made(world) == job, "it was deleted in the foreground"
    world.cr["metadata"]["annotations"] = {"wan-operator.dev/reconcile": "disabled"}
    assert await made(world) == [], "the operator was to leave it alone"


def due(world: World, *, hours: float) -> Raw:
    (job,) = deleted(world)
    left = what(job).model_copy(update={"due": datetime.now(UTC) + timedelta(hours=hours)})
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (entry,) = (each for each in container["env"] if each["name"] == VARIABLE)
    entry["value"] = left.model_dump_json(by_alias=True, exclude_none=True)
    return job


async def freed(jobs: Iterable[Raw], *living: Raw, refused: str = "") -> list[str]:
    server = Server()
    server.refused = refused
    await clearing.release(server, [(each, what(each)) for each in jobs], living)
    return server.freed


async def test_a_job_is_let_go_when_it_is_due_and_nothing_living_names_its_files() -> None:
    world = restored("full-2.2 training")
    job, later = due(world, hours=-1), due(world, hours=1)
    name = job["metadata"]["name"]
    assert await freed([later]) == []
    assert await freed([job]) == [name]
    (folder, *_) = keys(job)
    uri = f"s3://{what(job).store.bucket}/{folder}step-100/adapter.safetensors"
    reader: Raw = {
        "kind": "WanFineTune",
        "metadata": {"namespace": "team", "name": "next"},
        "spec": {"method": {"lora": {"initFrom": {"highNoise": uri}}}},
    }
    server = Server()
    for _ in range(2):
        await clearing.release(server, [(job, what(job))], [reader])
    assert server.freed == []
    assert len(server.explained) == 1, "once"
    assert server.explained[0].startswith(f"WanFineTune team/next names s3://wan/{folder[:-1]}")
    reader["spec"] = {"adapters": [{"files": {"uri": uri.replace("5c1a7e00", "99999999")}}]}
    assert await freed([job], reader) == [name]
    assert await freed([job, job], refused=name) == [], "one refusal is not the sweep's end"


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"name": "x"}},
        {"spec": {"suspend": False}},
        {"spec": {"suspend": True, "template": {"spec": {"containers": [{"name": "a"}]}}}},
    ],
)
def test_other_jobs_are_none_of_ours(change: Raw) -> None:
    (job,) = deleted(restored("full-2.2 training"))
    assert left_of({**job, **change}) is None
