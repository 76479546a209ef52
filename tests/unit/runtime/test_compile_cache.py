"""Where compiled kernels are kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch

from gpu.synthetic import build
from wan_runtime.data import encode
from wan_runtime.evaluation import rendered
from wan_runtime.models import compile_cache, tiny
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.times import Times
from wan_runtime.serving.worker import rank

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200 (SXM)")
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    for name in ("WAN_COMPILE_CACHE", "WAN_MODEL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in compile_cache.FOLDERS:
        monkeypatch.setenv(name, "as it was")


@pytest.mark.parametrize(
    ("name", "below"), [("WAN_COMPILE_CACHE", ""), ("WAN_MODEL_CACHE", "compiled/")]
)
def test_kernels_of_a_version_and_a_gpu_have_a_folder(
    name: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path))
    home = tmp_path / f"{below}2.13.0-cu130-NVIDIA-H200-SXM-"
    assert compile_cache.use(GPU) == home
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(home / "inductor")
    assert os.environ["TRITON_CACHE_DIR"] == str(home / "triton")
    assert (home / "inductor").is_dir()


def test_nothing_is_set_where_there_is_no_folder_or_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert compile_cache.use(GPU) is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("WAN_COMPILE_CACHE", str(tmp_path / "file"))
    assert compile_cache.use(GPU) is None
    assert "compiled kernels are not kept in" in caplog.text
    assert "Not a directory" in caplog.text
    monkeypatch.setenv("WAN_COMPILE_CACHE", str(tmp_path))
    assert compile_cache.use(torch.device("cpu")) is None
    assert os.environ["TRITON_CACHE_DIR"] == "as it was"


class Used(Exception):
    """The step has chosen a folder."""


def train() -> None:
    build(PRESETS["Wan2.1-I2V-Tiny"], tiny.DIT21, torch.device("cpu"))


def encoding() -> None:
    given = {"load_dataset": mock.Mock(), "prepared": mock.Mock(), "base_model": mock.Mock()}
    with mock.patch.multiple(encode, **given):
        encode.run(mock.Mock(), mock.Mock(), Path(), mock.Mock())


def rendering() -> None:
    given = {"evaluation_of": mock.Mock(), "preset_of": mock.Mock(), "RenderCache": mock.Mock()}
    with mock.patch.multiple(rendered, **given):
        rendered.Candidate(mock.Mock(), mock.Mock(), mock.Mock(), Path(), mock.Mock())


def serving() -> None:
    with mock.patch.multiple(rank, preset_named=mock.Mock(), join=mock.Mock()):
        rank.open_rank(mock.Mock(), 0, 1, Path(), Path(), Times())


@pytest.mark.parametrize("step", [train, encoding, rendering, serving])
def test_each_step_that_compiles_keeps_its_kernels(
    step: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_cache, "use", mock.Mock(side_effect=Used))
    with pytest.raises(Used):
        step()
