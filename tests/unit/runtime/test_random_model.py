"""The random model that GPU benchmarks serve is one that workers take: in its full size, but for
the data, of which files have holes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpu import random_model
from wan_runtime.models.examine import COMPARED, examine
from wan_runtime.models.layout import locate
from wan_runtime.models.places import Volume
from wan_runtime.presets import PRESETS

PRESET = PRESETS["Wan2.2-I2V-A14B"]
NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


def save_hollow(tensors: dict[str, Tensor], path: Path) -> None:
    """As save_file, of tensors without data; but the one by which experts are told apart."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.itemsize
        header[name] = {
            "dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end],
        }  # fmt: skip
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
        if COMPARED in header:
            file.seek(8 + len(text) + header[COMPARED]["data_offsets"][0])
            file.write(str(path).encode())


def test_a_worker_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_model, "save_file", save_hollow)
    monkeypatch.setattr(
        random_model, "file_digest", lambda path: path.with_name(f"{path.name}.sha256.json").touch()
    )
    folder = tmp_path / "model"
    random_model.write(PRESET, folder, torch.device("meta"), quiet=True)
    examine(PRESET, Volume.list(folder))
    files = locate(PRESET, folder)
    high, low = files.dits.values()
    assert len(high) == len(low) > 5
    assert [one.samefile(other) for one, other in zip(high, low, strict=True)] == [
        *[True] * (len(high) - 1), False,
    ]  # fmt: skip
    assert all(path.with_name(f"{path.name}.sha256.json").exists() for path in low[:-1])
