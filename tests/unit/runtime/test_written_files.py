"""Job files, latent cache and checkpoint of an earlier commit are gone on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import written_before
from object_store import BUCKET, ObjectStore
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import JobSpec, Result
from wan_runtime.contract.steps import Step
from wan_runtime.data import encode, latents
from wan_runtime.models import tiny
from wan_runtime.presets import PRESETS
from wan_runtime.process.progress import Reporter
from wan_runtime.process.step import load_job, perform

PRESET = "Wan2.2-I2V-Tiny"


def read_job(text: str, server: ObjectStore, folder: Path) -> JobSpec:
    """As a pod of the new release reads it, that an attempt of the old one's fine-tune mounts."""
    file = folder / "job.json"
    file.write_text(text.replace(written_before.ENDPOINT, server.endpoint))
    return load_job(file, Step(json.loads(text)["step"]))


def test_every_step_that_was_committed_counts_as_done(
    server: ObjectStore, store: Store, tmp_path: Path
) -> None:
    """Its job file is read, what it committed is found, and is what it would make."""
    rows = written_before.read("jobs")
    written = {json.loads(row["job"])["step"] for row in rows}
    assert written == {"prepare", "import", "encode", "train", "export", "sample"}
    for row in rows:
        content = json.loads(row["job"])
        content["store"] = {
            **content["store"], "endpoint": server.endpoint, "bucket": BUCKET, "caFile": None,
        }  # fmt: skip
        job = read_job(json.dumps(content), server, tmp_path)
        assert job.step_id == row["stepId"]
        store.put_bytes(row["key"], row["manifest"].encode())
        result = perform(job, tmp_path, Reporter(job.step_id))
        assert (result.message, result.summary) == ("already committed", {"clips": 12}), row["job"]
        store.delete([row["key"]])


@pytest.fixture
def small(server: ObjectStore, store: Store, tmp_path: Path) -> Path:
    """Work folder with the base model of the run whose objects are in the store."""
    written_before.upload(server)
    model = tmp_path / "work" / "model" / PRESET
    tiny.write(PRESETS[PRESET], model)
    written_before.rewrite_model(model)
    return tmp_path / "work"


def run(id: str, server: ObjectStore, work: Path) -> Result:
    """The step of that run, by its job file."""
    maps: dict[str, Any] = written_before.read("finetunes")["small stopped"]["configMaps"]
    job = read_job(maps[f"demo-{id}"]["data"]["job.json"], server, work.parent)
    return perform(job, work, Reporter(job.step_id))


def test_its_latent_cache_is_hit(
    server: ObjectStore, store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the versions of then: clips have been read better since, so those of now are others."""
    monkeypatch.setattr(latents, "VERSIONS", {"video": 2, "text": 1, "image": 2})
    assert run("encode", server, small).message == "already committed"
    before = store.get_bytes(f"{written_before.RUN}/encode/latents.json")
    store.delete(
        [f"{written_before.RUN}/encode/latents.json", f"{written_before.RUN}/encode/manifest.json"]
    )
    monkeypatch.setattr(encode, "TextEncoder", None)  # not reached
    monkeypatch.setattr(encode, "VideoEncoder", None)
    message = run("encode", server, small).message
    assert message == "2 clips in the latent cache: 0 objects encoded, 8 already there"
    assert store.get_bytes(f"{written_before.RUN}/encode/latents.json") == before


def test_its_checkpoint_is_resumed(server: ObjectStore, store: Store, small: Path) -> None:
    state = written_before.objects()[
        f"{written_before.RUN}/train-low-noise/checkpoints/step-00000002/state.json"
    ]
    before = json.loads(state)["history"]["steps"]
    result = run("train-low-noise", server, small)
    assert (result.summary["resumedFromStep"], result.summary["steps"]) == (2, 3)
    record = json.loads(store.get_bytes(f"{written_before.RUN}/train-low-noise/training.json"))
    assert [step["step"] for step in record["steps"]] == [1, 2, 3]
    assert record["steps"][:2] == before
