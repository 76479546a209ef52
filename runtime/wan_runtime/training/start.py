"""The weights that `initFrom` names, verified on CPUs before a GPU is asked for.

An adapter is read whole, as a training reads it, into parameters without memory. Of full weights,
which are large, only the headers are read: names, dtypes and shapes of all tensors.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import nn

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import FineTuneWork, finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.training import LoraSpec
from wan_runtime.models import shapes
from wan_runtime.models.adapters.dialects import ADAPTER
from wan_runtime.models.headers import Header, joined, read_header
from wan_runtime.presets import PRESETS
from wan_runtime.training import init_files, init_from


def verify(job: JobSpec, store: Store, work: Path) -> None:
    """Check what each expert is to start from. Raises InputError as `init_from.begin` does, with
    the words that a training would end with."""
    work_of = finetune_of(job)
    for expert, uri in (work_of.starts or {}).items():
        folder = work / "initial"
        try:
            _verify(job, work_of, expert, uri, store, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _verify(
    job: JobSpec, work: FineTuneWork, expert: Expert, uri: str, store: Store, folder: Path
) -> None:
    files = headers(uri, store, expert)
    found = joined(files)
    adapts = init_from.is_of_adapter(uri, found.tensors.keys(), len(files), work.lora)
    trainable = parameters(job.base.preset, work.lora)
    if not adapts:
        init_from.of_full(uri, found, trainable)
        return
    [path] = init_files.fetch(uri, store, expert, folder).paths
    init_from.from_adapter(job.model_copy(update={"expert": expert}), uri, path, trainable)


def headers(uri: str, store: Store, expert: Expert) -> dict[str, Header]:
    """Headers of the files at `uri` that belong to `expert`, by name. Raises InputError:
    MODEL_NOT_FOUND, MODEL_INVALID."""
    bucket, (_, key) = store.for_uri(uri), store.parse(uri)
    if key.endswith(".safetensors"):
        return {Path(key).name: _header(uri, bucket, key)}
    if not key.endswith(init_files.INDEX):
        prefix = key.removesuffix(f"/{manifest.NAME}")
        found = manifest.find(bucket, prefix)
        if found is not None:
            names = init_files.files_of(uri, found[1], expert)
            return {name: _header(uri, bucket, f"{prefix}/{name}") for name in names}
        key = init_files.find_index(uri, bucket, key, expert)
    shards = init_files.read_index(uri, bucket, key)
    files = {name: _header(uri, bucket, shards.key(name)) for name in shards.sizes}
    for name, header in files.items():
        shards.require(uri, name, header.tensors.keys())
    return files


def _header(uri: str, bucket: Store, key: str) -> Header:
    info = bucket.stat(key)
    if info is None:
        raise init_files.missing(uri, "does not exist")

    def read(offset: int, length: int) -> bytes:
        return bucket.get_range(key, offset, length)

    return read_header(read, info.bytes, f"initFrom: {bucket.uri(key)}")


def parameters(preset: str, lora: LoraSpec | None) -> dict[str, nn.Parameter]:
    """What is trained of a transformer, without memory: all weights, or the A and B of a LoRA."""
    weights = shapes.expected(PRESETS[preset], "dit")
    if lora is None:
        return {name: _parameter(*shape) for name, shape in weights.items()}
    made = {}
    for name, shape in weights.items():
        layer = name.removesuffix(".weight")
        if (
            layer == name
            or len(shape) != 2
            or not f".{layer}".endswith(tuple(f".{module}" for module in lora.target_modules))
        ):
            continue
        made[f"{layer}.lora_A.{ADAPTER}.weight"] = _parameter(lora.rank, shape[1])
        made[f"{layer}.lora_B.{ADAPTER}.weight"] = _parameter(shape[0], lora.rank)
    return made


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False)
