"""Our safetensors writer against the library's reader, and how tensors fall into shards."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from wan_runtime.models.weights import (
    SafetensorsFiles,
    shard_name,
    shards,
    stream_shards,
    write_safetensors,
)

TENSORS = {
    "odd": torch.arange(3, dtype=torch.uint8),
    "half": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "wide": torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).T,
    "scalar": torch.tensor(2.5),
    "none": torch.zeros(0, 4),
    "count": torch.tensor([1, 2]),
}


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, TENSORS, {"zwölf": "12", "a": "b"})
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name], tensor), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"zwölf": "12", "a": "b"}


def test_equal_content_is_equal_bytes_and_aligned(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    write_safetensors(one, TENSORS, {"a": "b", "c": "d"})
    write_safetensors(two, dict(reversed(TENSORS.items())), {"c": "d", "a": "b"})
    data = one.read_bytes()
    assert data == two.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    for name, tensor in TENSORS.items():
        assert header[name]["data_offsets"][0] % tensor.element_size() == 0


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ({"a": 4, "b": 4, "c": 4}, [["a", "b"], ["c"]]),
        ({"a": 11, "b": 1}, [["a"], ["b"]]),
        ({"a": 1, "b": 11, "c": 1}, [["a"], ["b"], ["c"]]),
        ({"a": 10}, [["a"]]),
        ({}, []),
    ],
)
def test_shards_hold_at_most_the_limit(sizes: dict[str, int], wanted: list[list[str]]) -> None:
    assert shards(sizes, 10) == wanted


def test_each_tensor_is_asked_for_once_when_it_is_written(tmp_path: Path) -> None:
    asked = []

    def tensor(name: str) -> Tensor:
        asked.append((name, len(list(tmp_path.iterdir()))))
        return TENSORS[name]

    layout = {name: (each.dtype, each.shape) for name, each in TENSORS.items()}
    made = dict(stream_shards(tmp_path / "x", layout, tensor, {}, 1))
    assert asked == [(name, number) for number, name in enumerate(TENSORS, 1)]
    assert list(made) == [shard_name("x", number, len(TENSORS)) for number in range(len(TENSORS))]
    with SafetensorsFiles(list(made.values())) as files:
        assert all(torch.equal(files[name], each) for name, each in TENSORS.items())


def test_files_read_as_one_mapping(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate(TENSORS):
        paths.append(tmp_path / shard_name("x", number, len(TENSORS)))
        write_safetensors(paths[-1], {name: TENSORS[name]}, {})
    assert paths[0].name == "x-00001-of-00006.safetensors"
    with SafetensorsFiles(paths) as files:
        assert list(files) == sorted(TENSORS)
        assert torch.equal(files["wide"], TENSORS["wide"])
        assert files.shape("wide") == (6, 4)
