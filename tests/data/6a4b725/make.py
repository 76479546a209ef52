"""Writes the files beside it, with the code of commit 6a4b725: see README.md.

Its imports are that commit's, whatever has moved since.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from specs import FINETUNES, SERVICE, SMALL
from tiny_model import rewrite

from ml_runs import moving_picture
from object_store import ACCESS_KEY, BUCKET, SECRET_KEY, ObjectStore
from orders import order, rendered, sign, sql
from postgres import Postgres, programs
from unit.controller import service_world
from unit.controller.service_world import example, finetune, report, tiny, track
from unit.controller.test_service_import import end as end_import
from unit.controller.world import SETTINGS, World
from wan_runtime import step
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage, Manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.job import Checkpoint, ExitClass, JobSpec, ManifestRef, Progress
from wan_runtime.models import tiny as tiny_models
from wan_runtime.presets import PRESETS
from wan_runtime.progress import Reporter
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.rollout import Rollout
from wan_runtime.serving.service import AdapterUse, ServiceSpec
from wan_runtime.serving.video import Advance, Problem, Stage
from wan_runtime.training.film import write_mp4

HERE = Path(__file__).parent
ENDPOINT = SETTINGS.store_endpoint
KEPT = datetime(2999, 1, 1, tzinfo=UTC)
KEPT_STATES = ("lora-2.2 training", "full-2.2 training", "all-fields training", "lora-2.2 finished")


def main() -> None:
    jobs: list[dict[str, str]] = []
    finetunes = {}
    for name, spec in FINETUNES.items():
        finetunes |= {f"{name} {when}": each for when, each in walked(spec, jobs).items()}
    finetunes = {name: finetunes[name] for name in KEPT_STATES}
    finetunes["small stopped"] = small_run()
    services = imported(jobs) | {
        "running": running(),
        "canary": canary(),
        "all-fields": all_fields(),
    }
    save("jobs", jobs)
    save("finetunes", finetunes)
    save("services", services)
    save("queue", asyncio.run(queue(services["running"])))


def save(name: str, content: Any) -> None:
    """An element a line."""
    lines = (
        [json.dumps(each, sort_keys=True) for each in content]
        if isinstance(content, list)
        else [f"{json.dumps(key)}: {json.dumps(content[key], sort_keys=True)}" for key in content]
    )
    left, right = "[]" if isinstance(content, list) else "{}"
    (HERE / f"{name}.json").write_text(left + "\n" + ",\n".join(lines) + "\n" + right + "\n")


# Fine-tunes


def state(world: World) -> dict[str, Any]:
    """All that a world holds, as JSON."""
    return {
        "cr": world.cr,
        "jobs": world.jobs,
        "pods": world.pods,
        "configMaps": world.config_maps,
        "pages": {id: json.loads(each.model_dump_json()) for id, each in world.answers.items()},
        "now": world.now.isoformat(),
    }


def walked(spec: dict[str, Any], jobs: list[dict[str, str]]) -> dict[str, Any]:
    """The run in its training, after an attempt of it was lost, and at its end."""
    world = World(**spec)
    world.at_once = 2
    states: dict[str, Any] = {}
    for _ in range(40):
        world.settle()
        if world.is_final:
            break
        for name in world.running_jobs():
            world.starts(name)
            if "-train" in name and "training" not in states:
                train(world, name)
                world.loses_pod(name)
                world.settle()
                world.passes(600)
                world.settle()
                for each in world.running_jobs():
                    world.starts(each)
                world.settle()
                states["training"] = json.loads(json.dumps(state(world)))
                break
            world.ends(ExitClass.DONE, name=name)
    states["finished"] = state(world)
    assert world.is_true("Complete"), world.status
    jobs += [recorded(each["data"]["job.json"]) for each in world.config_maps.values()]
    return states


def train(world: World, name: str) -> None:
    """Its page shows progress and a checkpoint."""
    id = world.jobs[name]["metadata"]["labels"]["wan-operator.dev/step"]
    ref = ManifestRef(uri=f"s3://wan/{id}/checkpoints/step-00000020/manifest.json", sha256="b" * 64)
    saved = Checkpoint(step=20, manifest=ref, saved=world.now)
    world.says(
        Progress(step_id=id, activity="training", current=25, total=100, checkpoint=saved,
                 loss=0.125, eta_seconds=300, updated=world.now)
    )  # fmt: skip
    world.settle()


def recorded(text: str) -> dict[str, str]:
    """A job file, and the manifest that its step commits."""
    job = JobSpec.model_validate_json(text)
    content = Manifest(
        kind="anything", created=datetime(2026, 11, 28, tzinfo=UTC), files=(),
        lineage=Lineage.of(job), summary={"clips": 12},
    )  # fmt: skip
    return {
        "job": text,
        "stepId": job.step_id,
        "key": f"{job.output_prefix}/{manifest.NAME}",
        "manifest": content.dump().decode(),
    }


def small_run() -> dict[str, Any]:
    """Steps that really run, to the second checkpoint of the training, where it is stopped."""
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with tempfile.TemporaryDirectory() as name, ObjectStore(Path(name) / "store") as server:
        folder, world = Path(name), World(**SMALL)
        model = folder / "work" / "model" / SMALL["model"]["preset"]
        tiny_models.write(PRESETS[model.name], model)
        rewrite(model)
        store = Store.connect(server.spec())
        rows = ["video,prompt,source"]
        for number in range(2):
            write_mp4(moving_picture(number, 5, 32, 32), folder / f"{number}.mp4", 16)
            store.put_file(f"clips/{number}.mp4", folder / f"{number}.mp4")
            rows.append(f"{number}.mp4,picture {number},recording{number}")
        store.put_bytes("clips/metadata.csv", "\n".join(rows).encode())
        for id in ("prepare", "encode", "train-low-noise"):
            world.settle()
            world.starts()
            text = world.config_maps[f"demo-{id}"]["data"]["job.json"]
            file = folder / "job.json"
            file.write_text(text.replace(ENDPOINT, server.endpoint))
            kind = step.Step(id.split("-")[0])
            job = step.load_job(file, kind)
            if id.startswith("train"):
                stopped(job, store, folder, world)
            else:
                found = step.perform(job, folder / "work", Reporter(id))
                world.exits(0, found.dump())
        keep_objects(server)
    return state(world)


def stopped(job: JobSpec, store: Store, folder: Path, world: World) -> None:
    """In mid-training: its process is gone, and nobody has noticed."""

    class Watch(Reporter):
        def saved(self, checkpoint: Checkpoint) -> None:
            super().saved(checkpoint)
            if checkpoint.step == 2:
                raise KeyboardInterrupt

    watch = Watch(job.step_id)
    try:
        step.perform(job, folder / "work", watch)
    except KeyboardInterrupt:
        world.says(watch.progress)
        world.settle()


def keep_objects(server: ObjectStore) -> None:
    client, about = server.client(), {}
    with zipfile.ZipFile(HERE / "store.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for entry in client.list_objects(BUCKET, recursive=True):
            key = str(entry.object_name)
            found = client.stat_object(BUCKET, key)
            marks = {k: v for k, v in (found.metadata or {}).items() if k.startswith("x-amz-meta-")}
            about[key] = {"metadata": marks, "contentType": found.content_type}
            archive.writestr(
                zipfile.ZipInfo(key), client.get_object(BUCKET, key).read(), zipfile.ZIP_DEFLATED
            )
    save("store", about)


# Services


def service_state(world: service_world.World) -> dict[str, Any]:
    return {
        "cr": world.cr,
        "objects": [
            {"kind": kind, "name": name, "object": json.loads(json.dumps(each))}
            for (kind, name), each in world.objects.items()
        ],
        "finetunes": world.finetunes,
        "report": world.report and json.loads(world.report.model_dump_json(by_alias=True)),
        "now": world.now.isoformat(),
    }


def imported(jobs: list[dict[str, str]]) -> dict[str, Any]:
    """A service that imports its model, and the same once it is served."""
    world = service_world.World(example("minimal"))
    world.turn()
    world.turn(5)
    importing = json.loads(json.dumps(service_state(world)))
    text = world.objects["ConfigMap", "videos-model"]["data"]["job.json"]
    jobs.append(recorded(text))
    end_import(world, 1, ExitClass.DONE)
    world.settle()
    return {"importing": importing, "imported": service_state(world)}


def running() -> dict[str, Any]:
    """With an effect, of the adapter of a fine-tune."""
    spec = {key: example("effects")["spec"][key] for key in ("adapters", "effects", "limits")}
    world = service_world.World(tiny(**spec))
    world.finetunes["anime-fairy"] = finetune("anime-fairy")
    world.settle()
    world.report = report()
    world.settle()
    assert world.condition("Ready")[0] == "True", world.status
    return service_state(world)


def all_fields() -> dict[str, Any]:
    """Full weights of a fine-tune, and every field of a service."""
    world = service_world.World(tiny(**SERVICE))
    world.finetunes["studio-full"] = finetune("studio-full", method={"full": {}})
    world.settle()
    assert world.condition("Ready")[0] == "True", world.status
    return service_state(world)


def canary() -> dict[str, Any]:
    """One that has rendered some videos, and not enough of them."""
    rollout = {"strategy": "Canary", "canary": {"percent": 20, "minVideos": 10}}
    world = service_world.World(tiny(rollout=rollout))
    world.settle()
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    world.roll()
    world.turn()
    world.report = report(stable=track(20, 0, 10.0), canary=track(3, 0, 10.0))
    world.settle()
    assert world.status["rollout"]["phase"], world.status
    return service_state(world)


# The queue


async def queue(service: dict[str, Any]) -> dict[str, Any]:
    """Jobs in every state, of the service that runs."""
    (file,) = (
        each
        for each in service["objects"]
        if each["name"] == "demo-gateway" and each["kind"] == "ConfigMap"
    )
    spec = ServiceSpec.model_validate_json(file["object"]["data"]["service.json"])
    with Postgres() as server:
        url = server.create("written")
        opened = await Queue.of(spec, url)
        await fill(opened, spec.prefix)
        # A test may come at any later time.
        await sql(url, "update jobs set expires_at = $1 where expires_at is not null", KEPT)
        await sql(url, "update jobs set lease_until = now() where lease_until is not null")
        rows = await sql(url, "select id from jobs order by number")
        jobs = [await opened.get(row["id"]) for row in rows]
        await opened.close()
        keep_database(url)
    return {
        "jobs": [json.loads(each.model_dump_json(by_alias=True)) if each else None for each in jobs]
    }


def keep_database(url: str) -> None:
    command = [programs() / "pg_dump", "--inserts", "--column-inserts", "--no-owner", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Newer servers' dumps have commands of psql, which nothing else reads.
    lines = [each for each in text.splitlines() if not each.startswith(("\\", "--")) and each]
    (HERE / "queue.sql").write_text("\n".join(lines) + "\n")


async def fill(opened: Queue, prefix: str) -> None:
    async def submit(prompt: str, owner: str = "app", **change: Any) -> str:
        about = {"predicted_seconds": 60.0, "limit_seconds": 1e9, **change}
        image = f"{prefix}/inputs/{prompt}.png"
        wanted = order(prompt, image).model_copy(
            update={"adapters": (AdapterUse(name="anime-fairy-lora", strength=0.9),)}
        )
        return (await opened.submit(wanted, owner=owner, **about)).job.id

    async def claim(id: str, worker: str) -> None:
        found = await opened.claim(worker, 30, "a1b2c3")
        assert found is not None
        assert found.id == id

    hook = "https://example.com/hook"
    about = sign("worker-1", revision="a1b2c3")
    await opened.alive(about.model_copy(update={"adapters": ("anime-fairy-lora",)}))
    done = await submit("completed", webhook=hook, idempotency_key="once", request_digest="d1")
    await claim(done, "worker-1")
    await opened.complete(done, "worker-1", rendered(f"{prefix}/videos/{done}/video.mp4"))
    failed = await submit("failed", webhook=hook)
    await claim(failed, "worker-1")
    await opened.fail(failed, "worker-1", Problem(code="out_of_memory", message="too large"))
    cancelled = await submit("cancelled")
    await opened.cancel(cancelled, "app")
    lost = await submit("lost")
    await claim(lost, "worker-2")
    advance = Advance(stage=Stage.DENOISING, step=2, steps=4, eta_seconds=9.0)
    await opened.heartbeat(lost, "worker-2", advance, 30)
    stopping = await submit("stopping")
    await claim(stopping, "worker-3")
    await opened.cancel(stopping, "app")
    deleted = await submit("deleted")
    await claim(deleted, "worker-4")
    await opened.delete(deleted, "app")
    handed = await submit("handed back")
    await claim(handed, "worker-5")
    await opened.hand_back(handed, "worker-5", "the node was drained", counts=True)
    await submit("other owner", "team", priority=3)
    await submit("remixed", remixed_from=done)
    await opened.roll_out(Rollout(canary="d4e5f6", weight=100, number=2))
    await submit("canary")


if __name__ == "__main__":
    main()
