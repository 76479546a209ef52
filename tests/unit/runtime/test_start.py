"""What `initFrom` names is verified on CPUs, with the words that a training would end with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ml_runs import Run
from unit.runtime.test_initial import CPU, official, place, short, upload, wide
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.errors import InputError
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.process.progress import Reporter
from wan_runtime.training import prepare, start
from wan_runtime.training.method import method_of

pytest_plugins = ["ml_fixtures"]


def starting(run: Run, starts: dict[Expert, str], **method: Any) -> JobSpec:
    spec = {run.method: method} if method else {}
    job = run.job(Step.PREPARE, **spec)
    work = finetune_of(job).model_copy(update={"starts": starts})
    return job.model_copy(update={"work": work})


def refused(run: Run, folder: Path, starts: dict[Expert, str], **method: Any) -> str:
    with pytest.raises(InputError) as caught:
        start.verify(starting(run, starts, **method), run.store, folder)
    assert caught.value.reason in (Reason.MODEL_INVALID, Reason.MODEL_NOT_FOUND)
    assert not (folder / "initial").exists()
    return caught.value.message


def only(uri: str) -> dict[Expert, str]:
    return {Expert.ONLY: uri}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_parameters_are_those_that_are_trained(
    exported21: Run, full21: Run, tiny21: ModelFiles, method: str
) -> None:
    job = (full21 if method == "full" else exported21).job(Step.TRAIN)
    transformer = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32)
    trained = method_of(job).prepare(transformer, 0)
    expected = start.parameters(job.model.preset, finetune_of(job).lora)
    shapes = {name: tuple(each.shape) for name, each in expected.items()}
    assert shapes == {name: tuple(each.shape) for name, each in trained.items()}


def test_what_fits_is_taken(
    exported21: Run, exported22: Run, full21: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = place(exported21, "export")
    start.verify(starting(exported21, only(mine)), exported21.store, tmp_path)
    both = place(exported22, "export")
    pair = {Expert.HIGH_NOISE: both, Expert.LOW_NOISE: both}
    start.verify(starting(exported22, pair), exported22.store, tmp_path)
    start.verify(starting(full21, only(mine)), full21.store, tmp_path)

    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("full weights are not fetched")

    monkeypatch.setattr(Store, "download", download)
    start.verify(starting(full21, only(place(full21, "export"))), full21.store, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused_with_the_words_of_the_training(
    exported21: Run, exported22: Run, full21: Run, tmp_path: Path
) -> None:
    mine = place(exported21, "export")
    assert "method.lora.rank is 8" in refused(exported21, tmp_path, only(mine), rank=8, alpha=8)
    few = refused(exported21, tmp_path, only(mine), targetModules=["q", "k"])
    assert "adapts 24 layers that method.lora.targetModules does not" in few
    other = refused(exported21, tmp_path, only(place(exported22, "export")))
    assert "holds HighNoise and LowNoise of Wan2.2-I2V-Tiny; this run trains Only" in other
    assert "holds no adapter" in refused(exported21, tmp_path, only(place(full21, "export")))
    bucket = exported21.store.bucket
    assert "has no manifest.json" in refused(exported21, tmp_path, only(f"s3://{bucket}/nothing"))
    assert "does not exist" in refused(exported21, tmp_path, only(f"{mine}/other.safetensors"))
    shape = refused(full21, tmp_path, only(upload(full21, tmp_path, wide)))
    assert "patch_embedding.weight is 128x36x1x2x2x1 there and 128x36x1x2x2 here" in shape
    lacking = refused(full21, tmp_path, only(upload(full21, tmp_path, short)))
    assert "1 tensors are missing and 0 are not known, such as head.modulation" in lacking


def test_the_second_expert_is_verified_too(exported22: Run, tmp_path: Path) -> None:
    both = place(exported22, "export")
    nothing = f"s3://{exported22.store.bucket}/nothing"
    starts = {Expert.HIGH_NOISE: both, Expert.LOW_NOISE: nothing}
    assert nothing in refused(exported22, tmp_path, starts)


def test_what_is_no_file_of_weights_is_named(full21: Run, tmp_path: Path) -> None:
    full21.store.put_bytes("given/page.safetensors", b"<html><body>404</body></html>" * 40)
    uri = f"s3://{full21.store.bucket}/given/page.safetensors"
    message = refused(full21, tmp_path, only(uri))
    assert message.startswith(f"initFrom: {uri} ")
    tensors = {name: each.to(torch.float8_e4m3fn) for name, each in official(full21).items()}
    save_file(tensors, tmp_path / "fp8.safetensors")
    full21.store.put_file("given/fp8.safetensors", tmp_path / "fp8.safetensors")
    eight = f"s3://{full21.store.bucket}/given/fp8.safetensors"
    assert "is stored in FP8" in refused(full21, tmp_path, only(eight))


def test_it_comes_before_the_dataset(exported21: Run, tmp_path: Path) -> None:
    job = starting(exported21, only(f"s3://{exported21.store.bucket}/nothing"))
    dataset = finetune_of(job).dataset.model_copy(update={"source": "s3://wan/none"})
    work = finetune_of(job).model_copy(update={"dataset": dataset})
    job = job.model_copy(update={"work": work})
    with pytest.raises(InputError, match="initFrom"):
        prepare.run(job, exported21.store, tmp_path, Reporter(job.step_id))
