"""Runs that share a store: a latent cache filled by two at once, parts that die, an imported
model."""

from __future__ import annotations

import csv
import json
import tarfile
import uuid
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from conftest import FEW, MODEL_CACHE
from finetunes import Run, assert_same_weights
from stack import BUCKET, STORE_SECRET, Stack
from wan_runtime.presets import PRESETS

SIZE = {"frames": 9, "width": 64, "height": 48}


def fresh_store(stack: Stack) -> dict[str, Any]:
    """A prefix in which nothing is cached yet."""
    return {
        "endpoint": stack.endpoint,
        "bucket": BUCKET,
        "prefix": f"e2e-{uuid.uuid4().hex[:8]}",
        "secretRef": {"name": STORE_SECRET},
    }


def test_two_runs_fill_one_latent_cache_at_once(
    stack: Stack, start: Callable[..., Run], reference: Run
) -> None:
    store = fresh_store(stack)
    runs = [start(name, store=store) for name in ("twin-a", "twin-b")]
    for run in runs:
        run.wait_complete()
        assert run.step("encode")["attempts"] == 1, run.story()
        assert_same_weights(run, reference)


def shards(folder: Path) -> None:
    """Turns a dataset of clips and metadata.csv into WebDataset shards of two clips."""
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number in range(0, len(rows), 2):
        with tarfile.open(folder / f"shard-{number // 2:06d}.tar", "w") as shard:
            for row in rows[number : number + 2]:
                clip = folder / row["video"]
                about = json.dumps({"prompt": row["prompt"]}).encode()
                for suffix, content in ((".mp4", clip.read_bytes()), (".json", about)):
                    info = tarfile.TarInfo(clip.stem + suffix)
                    info.size = len(content)
                    shard.addfile(info, BytesIO(content))
    (folder / "metadata.csv").unlink()
    for path in (folder / "clips").iterdir():
        path.unlink()


def test_a_part_of_the_encoding_is_killed(
    stack: Stack, namespace: str, upload: Callable[..., str], start: Callable[..., Run]
) -> None:
    dataset = {
        "source": upload("shards", spoil=shards),
        "format": "WebDataset",
        "window": "Spread",
        "windowsPerClip": 2,
        "encodeParallelism": 2,
        **SIZE,
        "frames": 5,  # two windows in each clip
    }
    run = start("parts", dataset=dataset, store=fresh_store(stack))
    stack.kill(namespace, run.wait_running("encode-part1"))
    status = run.wait_complete()

    attempts = {step["name"]: step["attempts"] for step in status["steps"]}
    assert attempts == {
        "prepare": 1, "encode-part1": 2, "encode-part2": 1, "encode": 1, "train": 1, "export": 1
    }  # fmt: skip
    assert run.step("encode-part1")["infrastructureRetries"] == 1
    latents = json.loads(run.committed("encode")["latents.json"])
    assert len(latents["clips"]) == 2 * len(FEW), "each window is a clip"


def test_a_model_of_the_bucket_is_kept_for_the_next_pod(
    stack: Stack, namespace: str, start: Callable[..., Run], reference: Run, tmp_path: Path
) -> None:
    """The Helm value `modelCache`; the model is the one that Tiny runs make themselves."""
    # Not before: a process that imports it takes seconds of a core to start.
    from wan_runtime.models import tiny

    preset = "Wan2.1-I2V-Tiny"
    tiny.write(PRESETS[preset], tmp_path)
    stack.upload(tmp_path, "e2e-models/tiny")
    stack.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": MODEL_CACHE, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )
    source = {"s3": f"s3://{BUCKET}/e2e-models/tiny"}
    run = start("imported", model={"preset": preset, "source": source})
    status = run.wait_complete()
    assert [step["name"] for step in status["steps"]] == [
        "prepare", "import", "encode", "train", "export"
    ]  # fmt: skip
    assert_same_weights(run, reference)
