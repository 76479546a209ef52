"""Training that starts from shards and their index, as other tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ml_runs import Run
from unit.runtime.test_initial import Begun, diffusers, official, refused
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.weights import shard_name, write_safetensors
from wan_runtime.training import init_from

pytest_plugins = ["ml_fixtures"]

STEM = "diffusion_pytorch_model"


def upload(run: Run, place: str, tensors: dict[str, Tensor], folder: Path, **change: Any) -> str:
    """Address of the folder: two shards and the index, in which `change` replaces entries."""
    folder.mkdir(parents=True)
    index: dict[str, str] = {}
    for number in (0, 1):
        names = sorted(tensors)[number::2]
        path = folder / shard_name(STEM, number, 2)
        write_safetensors(path, {name: tensors[name] for name in names}, {})
        run.store.put_file(f"{place}/{path.name}", path)
        index |= dict.fromkeys(names, path.name)
    content = {"metadata": {"total_size": 0}, "weight_map": index | change}
    run.store.put_bytes(f"{place}/{STEM}.safetensors.index.json", json.dumps(content).encode())
    return f"s3://{run.store.bucket}/{place}"


@pytest.mark.parametrize("names", [official, diffusers])
@pytest.mark.parametrize("ending", ["", "/", f"/{STEM}.safetensors.index.json"])
def test_full_weights_go_on_from_shards(
    names: Any, ending: str, full21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    place = f"sharded/{names.__name__}{len(ending)}"
    uri = upload(full21, place, names(full21), tmp_path / "made")
    begun = Begun(full21, tiny21, tmp_path / "work", uri + ending)
    for name, value in official(full21).items():
        assert torch.equal(begun.trainable[name], value.float()), name
    assert begun.source is not None
    assert begun.source["uri"] == f"{uri}/{STEM}.safetensors.index.json"
    assert not (tmp_path / "work/initial").exists()


def test_the_record_names_the_content_of_all_shards(
    full21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    def digest(name: str, scale: float) -> str:
        tensors = official(full21)
        tensors["head.modulation"] = tensors["head.modulation"] * scale
        uri = upload(full21, f"sharded/{name}", tensors, tmp_path / name)
        begun = Begun(full21, tiny21, tmp_path / f"{name}-work", uri)
        assert begun.source is not None
        return begun.source["sha256"]

    assert digest("one", 1) == digest("same", 1)
    assert digest("one-more", 1) != digest("other", 2)


def test_each_expert_of_a_pair_has_a_folder_of_its_own(
    full21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    store, made = full21.store, tmp_path / "made"
    tensors = official(full21)
    upload(full21, "pair/high_noise_model", tensors, made / "high")
    upload(full21, "pair/transformer_2", tensors, made / "low")
    uri = f"s3://{store.bucket}/pair"
    high = init_from.fetch(uri, store, Expert.HIGH_NOISE, tmp_path / "a")
    low = init_from.fetch(uri, store, Expert.LOW_NOISE, tmp_path / "b")
    assert "/pair/high_noise_model/" in high.uri
    assert "/pair/transformer_2/" in low.uri
    top = upload(full21, "unnamed", tensors, made / "top")
    with pytest.raises(InputError, match="in low_noise_model/ or transformer_2/: give an export"):
        init_from.fetch(top, store, Expert.LOW_NOISE, tmp_path / "c")
    named = f"{top}/{STEM}.safetensors.index.json"
    assert init_from.fetch(named, store, Expert.LOW_NOISE, tmp_path / "d").uri == named


def test_shards_that_do_not_fit_are_refused(
    full21: Run, exported21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    def start(name: str, tensors: dict[str, Tensor], **change: Any) -> str:
        uri = upload(full21, f"odd/{name}", tensors, tmp_path / name, **change)
        return refused(full21, tiny21, tmp_path / f"{name}-work", uri)

    sound = official(full21)
    absent = {"head.head.bias": "gone.safetensors"}
    assert "lacks 1 files that" in start("gone", sound, **absent)
    assert "names other things than" in start("outside", sound, x="../up.safetensors")
    other = shard_name(STEM, (sorted(sound).index("head.head.bias") + 1) % 2, 2)
    assert "is wrong about head.head.bias" in start("moved", sound, **{"head.head.bias": other})
    short = {name: tensor for name, tensor in sound.items() if name != "head.modulation"}
    assert "1 tensors are missing and 0 are not known" in start("short", short)
    adapter = {f"blocks.{number}.self_attn.q.lora_A.weight": torch.ones(4, 64) for number in "01"}
    assert "is an adapter in several files" in start("adapter", adapter)

    uri = upload(full21, "odd/two", sound, tmp_path / "two")
    full21.store.put_bytes("odd/two/other.safetensors.index.json", b"{}")
    assert "holds more than one index: give s3://" in refused(full21, tiny21, tmp_path, uri)
    for name, said in (("other", "has no weight_map in"), ("none", "does not exist")):
        index = f"{uri}/{name}.safetensors.index.json"
        assert said in refused(full21, tiny21, tmp_path, index)
