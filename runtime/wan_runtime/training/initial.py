"""Starting from existing weights: `initFrom`, an artifact of ours, a safetensors file, or shards.

The names of DiffSynth, ComfyUI and diffusers are understood, of adapters and of full weights.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffsynth.utils.state_dict_converters.wan_video_dit import WanVideoDiTFromDiffusers
from torch import nn

from wan_runtime.artifacts import manifest, space
from wan_runtime.artifacts.manifest import Manifest
from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.errors import InputError
from wan_runtime.job import Dialect, Expert, JobSpec, LoraSpec, Reason
from wan_runtime.models.digest import files_digest
from wan_runtime.models.weights import SafetensorsFiles
from wan_runtime.presets import PRESETS
from wan_runtime.training.dialects import Factors, read_adapter
from wan_runtime.training.lora import ADAPTER

# Shapes: O out and I in features of a layer, R rank. A is [R, I], B is [O, R].

_ENDING = r"(\.comfyui|\.diffusers)?(-\d{5}-of-\d{5})?\.safetensors$"
OF_EXPERT = {
    Expert.ONLY: r"\.safetensors$",
    Expert.HIGH_NOISE: rf"-high-noise{_ENDING}|/transformer/.*\.safetensors$",
    Expert.LOW_NOISE: rf"-low-noise{_ENDING}|/transformer_2/.*\.safetensors$",
}
"""What an export's names have in common."""
INDEX = ".safetensors.index.json"
"""Of shards: which tensor is in which file."""
SHARD_FOLDERS = {
    Expert.ONLY: ("", "transformer/"),
    Expert.HIGH_NOISE: ("high_noise_model/", "transformer/"),
    Expert.LOW_NOISE: ("low_noise_model/", "transformer_2/"),
}
"""Where an index lies in a folder that is not ours: as released, and of diffusers' pipelines."""
TRAINABLE_KINDS = ("weights", "training")
"""Kinds of artifact that hold weights: of an export and of a train step."""


@dataclass(frozen=True, slots=True)
class Source:
    """Weights brought to this machine, verified."""

    uri: str
    sha256: str
    """Of the artifact's manifest, or of the file; of shards, over the checksums of all."""
    paths: tuple[Path, ...]


def begin(
    job: JobSpec, store: Store, work: Path, trainable: Mapping[str, nn.Parameter]
) -> dict[str, str] | None:
    """Overwrite the fresh weights with those that `initFrom` names; None if it names none.

    Returns where they came from, for the record. Raises InputError with both sides of what does not
    fit: MODEL_NOT_FOUND, MODEL_INVALID.
    """
    method = job.lora or job.full
    if method is None or method.init_from is None:
        return None
    uri = method.init_from
    source = fetch(uri, store, job.expert, work / "initial")
    with SafetensorsFiles(source.paths) as tensors:
        is_adapter = any("lora_" in name for name in tensors)
    if is_adapter and len(source.paths) > 1:
        raise _invalid(uri, "is an adapter in several files: give one .safetensors file")
    if job.lora is not None and not is_adapter:
        raise _invalid(
            uri, "holds no adapter: to train one on full weights, name them as the model"
        )
    if job.lora is not None:
        into_adapter(uri, read_adapter(source.paths[0])[1], trainable, job.lora)
    elif is_adapter:
        merge(uri, read_adapter(source.paths[0])[1], trainable)
    else:
        into_full(uri, source.paths, trainable)
    shutil.rmtree(work / "initial")  # tens of gigabytes that checkpoints may need
    return {"uri": source.uri, "sha256": source.sha256}


def fetch(uri: str, store: Store, expert: Expert, folder: Path) -> Source:
    """The files at `uri` that belong to `expert`: of an artifact's folder or manifest, one
    `.safetensors` object, or the shards of an index, which `uri` or its folder names.
    """
    bucket, (_, key) = store.for_uri(uri), store.parse(uri)
    folder.mkdir(parents=True, exist_ok=True)
    if key.endswith(".safetensors"):
        info = bucket.stat(key)
        if info is None:
            raise _missing(uri, "does not exist")
        space.require(folder, info.bytes, f"fetching {uri}")
        path = folder / Path(key).name
        bucket.download(key, path, bytes=info.bytes)
        return Source(uri, file_sha256(path), (path,))
    if key.endswith(INDEX):
        return fetch_shards(uri, bucket, key, folder)
    found = manifest.find(bucket, key.removesuffix(f"/{manifest.NAME}"))
    if found is None:
        return fetch_shards(uri, bucket, find_index(uri, bucket, key, expert), folder)
    ref, content = found
    names = files_of(uri, content, expert)
    manifest.fetch(bucket, ref, folder, names)
    return Source(ref.uri, ref.sha256, tuple(folder / name for name in names))


def find_index(uri: str, bucket: Store, folder: str, expert: Expert) -> str:
    """Key of the only index there for `expert`. Of a pair it must be in a folder named for it: what
    lies at the top could be either's."""
    top = f"{folder}/" if folder else ""
    places = "|".join(re.escape(top + name) for name in SHARD_FOLDERS[expert])
    pattern = re.compile(rf"({places})[^/]+{re.escape(INDEX)}")
    found = [entry.key for entry in bucket.list(top) if pattern.fullmatch(entry.key)]
    if not found:
        below = " or ".join(name for name in SHARD_FOLDERS[expert] if name)
        at_top = "in it or " if expert is Expert.ONLY else ""
        raise _missing(
            uri,
            f"has no manifest.json, and no *{INDEX} {at_top}in {below}: give an export's folder, "
            f"a .safetensors file, or the *{INDEX} of shards",
        )
    if len(found) > 1:
        names = " or ".join(sorted(map(bucket.uri, found)))
        raise _invalid(uri, f"holds more than one index: give {names}")
    return found[0]


def fetch_shards(uri: str, bucket: Store, index: str, folder: Path) -> Source:
    """The files that an index names, each with just the tensors that it says."""
    place = bucket.uri(index)
    if bucket.stat(index) is None:
        raise _missing(uri, "does not exist")
    try:
        of_tensors = dict(json.loads(bucket.get_bytes(index))["weight_map"])
        names = sorted({str(name) for name in of_tensors.values()})
    except (ValueError, KeyError, TypeError) as error:
        raise _invalid(uri, f"has no weight_map in {place}: {error!r}") from error
    if not names or any("/" in name or not name.endswith(".safetensors") for name in names):
        raise _invalid(uri, f"names other things than .safetensors files beside it in {place}")
    keys = {name: index.removesuffix(Path(index).name) + name for name in names}
    sizes = {name: info.bytes for name in names if (info := bucket.stat(keys[name])) is not None}
    lacking = [name for name in names if name not in sizes]
    if lacking:
        raise _missing(uri, f"lacks {len(lacking)} files that {place} names, such as {lacking[0]}")
    space.require(folder, sum(sizes.values()), f"fetching {uri}")
    paths = [folder / name for name in names]
    for path in paths:
        bucket.download(keys[path.name], path, bytes=sizes[path.name])
        with SafetensorsFiles([path]) as tensors:
            odd = set(tensors) ^ {name for name, at in of_tensors.items() if at == path.name}
        if odd:
            raise _invalid(uri, f"differs from {place}, which is wrong about {min(odd)}")
    return Source(place, files_digest(paths), tuple(paths))


def files_of(uri: str, content: Manifest, expert: Expert) -> tuple[str, ...]:
    """Files of an artifact with the weights of `expert`, in one of the formats it has."""
    its = content.lineage
    preset = PRESETS.get(its.preset)
    if content.kind not in TRAINABLE_KINDS or preset is None:
        raise _invalid(uri, f"is a set of {content.kind}, not of weights")
    if expert not in preset.experts or (content.kind == "training" and its.expert is not expert):
        held = its.expert if content.kind == "training" else " and ".join(preset.experts)
        raise _invalid(uri, f"holds {held} of {its.preset}; this run trains {expert}")
    if content.kind == "training":
        return tuple(entry.path for entry in content.files if entry.path.endswith(".safetensors"))
    formats = (content.certified(form) for form in Dialect)
    paths = next((paths for paths in formats if paths), ())
    chosen = tuple(path for path in paths if re.search(OF_EXPERT[expert], path))
    if not chosen:
        raise _invalid(uri, f"has no weights of {expert}")
    return chosen


def into_adapter(
    uri: str, factors: Factors, trainable: Mapping[str, nn.Parameter], spec: LoraSpec
) -> None:
    """Overwrite A and B. Layers that the file lacks start fresh; none of its own may be left out,
    or the run would begin elsewhere than the file ends.
    """
    layers = {name.partition(".lora_A.")[0] for name in trainable if ".lora_A." in name}
    surplus = sorted(factors.keys() - layers)
    if surplus:
        raise _invalid(
            uri,
            f"adapts {len(surplus)} layers that method.lora.targetModules does not, such as "
            f"{surplus[0]}",
        )
    for layer, (b, a) in factors.items():
        if a.shape[0] != spec.rank:
            raise _invalid(
                uri, f"has rank {a.shape[0]} at {layer} and method.lora.rank is {spec.rank}"
            )
        # The file's scale is in its B; ours multiplies by alpha / rank.
        _copy(uri, trainable, f"{layer}.lora_A.{ADAPTER}.weight", a)
        _copy(uri, trainable, f"{layer}.lora_B.{ADAPTER}.weight", b * (spec.rank / spec.alpha))


def merge(uri: str, factors: Factors, trainable: Mapping[str, nn.Parameter]) -> None:
    """Add an adapter's deltas to full weights."""
    for layer, (b, a) in factors.items():
        name = f"{layer}.weight"
        parameter = trainable.get(name)
        wanted = None if parameter is None else tuple(parameter.shape)
        if parameter is None or wanted != (b.shape[0], a.shape[1]):
            raise _misfit(uri, name, (b.shape[0], a.shape[1]), wanted)
        with torch.no_grad():
            parameter.add_(b.to(parameter.device) @ a.to(parameter.device))


def into_full(uri: str, paths: Iterable[Path], trainable: Mapping[str, nn.Parameter]) -> None:
    """Overwrite all weights, a tensor at a time."""
    with SafetensorsFiles(list(paths)) as tensors:
        names = _official(list(tensors))
        lacking = sorted(trainable.keys() - names.keys())
        surplus = sorted(names.keys() - trainable.keys())
        if lacking or surplus:
            odd = (lacking or surplus)[0]
            raise _invalid(
                uri,
                f"is no transformer of this preset: {len(lacking)} tensors are missing and "
                f"{len(surplus)} are not known, such as {odd}",
            )
        for name, parameter in trainable.items():
            shape = tuple(tensors.shape(names[name]))
            if shape != tuple(parameter.shape):
                raise _misfit(uri, name, shape, tuple(parameter.shape))
        for name in trainable:
            _copy(uri, trainable, name, tensors[names[name]])


def _official(names: list[str]) -> dict[str, str]:
    """Official name -> the file's, for the dialects of full weights."""
    if any(name.startswith("condition_embedder.") for name in names):
        renamed: dict[str, str] = WanVideoDiTFromDiffusers({name: name for name in names})
        return renamed
    return {re.sub(r"^(model\.)?diffusion_model\.", "", name): name for name in names}


def _copy(uri: str, trainable: Mapping[str, nn.Parameter], name: str, value: torch.Tensor) -> None:
    parameter = trainable[name]
    if parameter.shape != value.shape:
        raise _misfit(uri, name, tuple(value.shape), tuple(parameter.shape))
    with torch.no_grad():
        parameter.copy_(value)


def _misfit(
    uri: str, name: str, found: tuple[int, ...], wanted: tuple[int, ...] | None
) -> InputError:
    there = "none" if wanted is None else "x".join(map(str, wanted))
    return _invalid(
        uri, f"is for another model: {name} is {'x'.join(map(str, found))} there and {there} here"
    )


def _missing(uri: str, what: str) -> InputError:
    return InputError(Reason.MODEL_NOT_FOUND, f"initFrom: {uri} {what}")


def _invalid(uri: str, what: str) -> InputError:
    return InputError(Reason.MODEL_INVALID, f"initFrom: {uri} {what}")
