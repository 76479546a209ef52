"""Sample videos: base and adapter through the stock pipeline, playable, and different."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ml_runs import FRAMES, HEIGHT, WIDTH, Run, moving_picture
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.contract.finetune import Dialect, finetune_of
from wan_runtime.contract.job import Certificate
from wan_runtime.contract.steps import Step
from wan_runtime.errors import NumericalError
from wan_runtime.models import load
from wan_runtime.models.layout import ModelFiles
from wan_runtime.process.progress import Reporter
from wan_runtime.training import sample

pytest_plugins = ["ml_fixtures"]


@pytest.mark.parametrize("name", ["exported21", "exported22"])
def test_adapter_changes_the_stock_pipelines_videos(
    name: str, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(name)
    outcome = run.go(Step.SAMPLE)
    assert float(outcome.summary["meanDifference"]) > 0.1
    assert outcome.summary["videos"] == 1
    folder = run.fetch("sample")
    videos = {path.name for path in folder.glob("*.mp4")}
    assert videos == {"base-0.mp4", "lora-0.mp4", "reference-0.mp4"}
    for video in videos:
        with av.open(str(folder / video)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 16)
            assert sum(1 for _ in container.decode(stream)) == FRAMES
    with Image.open(folder / "contact-sheet.png") as sheet:
        assert sheet.height > 3 * HEIGHT
    committed = manifest.load(run.store, run.inputs["sample"])
    assert committed.kind == "samples"
    assert committed.lineage.inputs["export"] == run.inputs["export"]


def test_adapter_that_changes_nothing_is_refused(exported21: Run, tmp_path: Path) -> None:
    run = exported21.fork("exported21-zero")
    tensors = load_file(exported21.fetch("export") / "exported21.safetensors")
    path = tmp_path / "zero.safetensors"
    save_file({key: value * ("lora_A" in key) for key, value in tensors.items()}, path)
    run.inputs["train"] = exported21.inputs["train"]
    name = f"{run.folder.name}.safetensors"
    certificate = Certificate(
        format=Dialect.DIFFSYNTH, consumer="none", worst_difference=0, files=(name,)
    )
    run.inputs["export"] = manifest.commit(
        run.store, "zero", {name: path}, kind="weights", summary={}, certificates=(certificate,),
        lineage=Lineage(config_hash="0" * 64, preset=run.preset.name),
    )  # fmt: skip
    with pytest.raises(NumericalError, match="changes nothing"):
        run.go(Step.SAMPLE)


def test_no_samples_wanted(exported21: Run) -> None:
    run = exported21.fork("no-samples")
    run.inputs["export"] = exported21.inputs["export"]
    job = run.job(Step.SAMPLE)
    assert finetune_of(job).sample.count == 1
    none = run.job(Step.SAMPLE, sample={"count": 0})
    outcome = sample.run(none, run.store, run.folder, Reporter("sample"))
    assert outcome.summary == {"videos": 0}
    assert manifest.load(run.store, outcome.manifest).files == ()


def test_offloaded_pipeline_takes_the_adapter_too(
    exported21: Run, tiny21: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU job does with 14B, on the CPU: there the adapter is not fused, but hot-loaded."""
    monkeypatch.setattr(torch.cpu, "empty_cache", lambda: None, raising=False)
    files = exported21.fetch("export")
    job = exported21.job(Step.SAMPLE)
    picture = moving_picture(0)
    videos = []
    for offload in (False, True):
        pipe = load.load_pipeline(tiny21, torch.float32, torch.device("cpu"), offload=offload)
        assert bool(pipe.vram_management_enabled) == offload
        sample.load_adapters(pipe, job, files)
        videos.append(sample.render(pipe, tiny21.preset, job, "a drifting picture", picture))
    assert np.abs(videos[0] - videos[1]).max() < 1e-3
