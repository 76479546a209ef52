"""Weights that several threads read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from renders import CPU
from wan_runtime.contract.steps import Expert
from wan_runtime.models import load, reading
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]


def test_all_tensors_of_all_shards_come_from_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for shard in range(2):
        paths.append(tmp_path / f"{shard}.safetensors")
        save_file({f"{shard}.{n}": torch.randn(n + 1, 3) for n in range(9)}, paths[-1])
    monkeypatch.setattr(reading, "PART_BYTES", 200)
    used = set[int]()
    opened = reading.safe_open

    def noted(path: Path, framework: str, **options: str) -> object:
        used.add(threading.get_ident())
        return opened(path, framework, **options)

    monkeypatch.setattr(reading, "safe_open", noted)
    found = reading.read(paths, torch.bfloat16, CPU)
    wanted = {name: each for path in paths for name, each in load_file(path).items()}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], each.bfloat16()) for name, each in wanted.items())
    assert used - {threading.get_ident()}


def test_a_transformer_is_the_same_whoever_reads_it(
    tiny21: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = load.load_dit(tiny21, Expert.ONLY, torch.float32, CPU).state_dict()
    monkeypatch.setattr(load, "LARGE", 0)
    calls: list[int] = []
    read = reading.read
    monkeypatch.setattr(
        reading, "read", lambda paths, *more: (calls.append(len(paths)), read(paths, *more))[1]
    )
    found = load.load_dit(tiny21, Expert.ONLY, torch.float32, CPU).state_dict()
    assert calls == [1]
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], each) for name, each in wanted.items())
