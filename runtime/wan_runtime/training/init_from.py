"""Starting from existing weights: `initFrom`, an artifact of ours, a safetensors file, or shards.

The names of DiffSynth, ComfyUI and diffusers are understood, of adapters and of full weights.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffsynth.utils.state_dict_converters.wan_video_dit import WanVideoDiTFromDiffusers
from safetensors import SafetensorError, safe_open
from torch import nn

from wan_runtime.artifacts import manifest, space
from wan_runtime.artifacts.manifest import Manifest
from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.contract.finetune import Dialect, finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.training import LoraSpec
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.changes import Adapter, Changes, without_image_branches
from wan_runtime.models.adapters.dialects import ADAPTER, is_adapter, read_adapter
from wan_runtime.models.adapters.foreign import opening
from wan_runtime.models.adapters.layer_names import is_image_branch
from wan_runtime.models.digest import files_digest
from wan_runtime.models.recognise import precision
from wan_runtime.models.weights import SafetensorsFiles
from wan_runtime.presets import PRESETS

log = logging.getLogger(__name__)

# Shapes: O out and I in features of a layer, R rank. A is [R, I], B is [O, R].

_ENDING = r"(\.comfyui|\.diffusers)?(-\d{5}-of-\d{5})?\.safetensors$"
OF_EXPERT = {
    Expert.ONLY: r"\.safetensors$",
    Expert.HIGH_NOISE: rf"-high-noise{_ENDING}|/transformer/.*\.safetensors$",
    Expert.LOW_NOISE: rf"-low-noise{_ENDING}|/transformer_2/.*\.safetensors$",
}
"""What an export's names have in common."""
INDEX = ".safetensors.index.json"
"""Suffix of the index of shards, which lists the file of each tensor."""
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
    """SHA-256 of the artifact's manifest, or of the file; of shards, over the checksums of all."""
    paths: tuple[Path, ...]


def begin(
    job: JobSpec, store: Store, work: Path, trainable: Mapping[str, nn.Parameter]
) -> dict[str, str] | None:
    """Overwrite the fresh weights with those that `initFrom` names; None if it names none.

    Returns where they came from, for the record. Raises InputError with both sides of what does not
    fit: MODEL_NOT_FOUND, MODEL_INVALID.
    """
    spec = finetune_of(job)
    method = spec.lora or spec.full
    if method is None or method.init_from is None:
        return None
    uri = method.init_from
    source = fetch(uri, store, job.expert, work / "initial")
    with _opened(uri, source.paths) as tensors:
        adapts = is_adapter(tensors)
    if adapts and len(source.paths) > 1:
        raise _invalid(uri, "is an adapter in several files: give one .safetensors file")
    if spec.lora is not None and not adapts:
        raise _invalid(
            uri, "holds no adapter: to train one on full weights, name them as the model"
        )
    if not adapts:
        into_full(uri, source.paths, trainable)
    else:
        with _of_init_from():
            adapter = read_adapter(source.paths[0], uri)
            changes = adapter.of(job.expert)
        if spec.lora is not None:
            image = PRESETS[job.model.preset].uses_clip
            into_adapter(uri, changes, trainable, spec.lora, has_image_branches=image)
        else:
            with _of_init_from():
                merge(adapter, job.expert, trainable)
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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        text = f"has no weight_map in {place}: give the index that was saved with its shards"
        raise _invalid(uri, text) from error
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
        with _opened(uri, [path]) as tensors:
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
    uri: str,
    changes: Changes,
    trainable: Mapping[str, nn.Parameter],
    spec: LoraSpec,
    *,
    has_image_branches: bool,
) -> None:
    """Overwrite A and B. Layers that the file lacks start fresh; none of its own may be left out,
    or the run would begin elsewhere than the file ends. But for image branches that the model
    lacks: nothing is lost with them.
    """
    names = {f"{layer}.weight" for layer in changes.factors} | changes.differences.keys()
    lacking = frozenset() if has_image_branches else frozenset(filter(is_image_branch, names))
    changes = changes.without(lacking)
    if not changes:
        raise _invalid(uri, "changes nothing but image branches, which this model has not")
    _warn(uri, lacking)
    if changes.differences:
        raise _invalid(
            uri,
            f"changes {len(changes.differences)} parameters by what no LoRA holds, such as "
            f"{min(changes.differences)}: start full fine-tuning from it, or serve it beside yours",
        )
    layers = {name.partition(".lora_A.")[0] for name in trainable if ".lora_A." in name}
    surplus = sorted(changes.factors.keys() - layers)
    if surplus:
        raise _invalid(
            uri,
            f"adapts {len(surplus)} layers that method.lora.targetModules does not, such as "
            f"{surplus[0]}",
        )
    for layer, (b, a) in changes.factors.items():
        if a.shape[0] != spec.rank:
            raise _invalid(
                uri, f"has rank {a.shape[0]} at {layer} and method.lora.rank is {spec.rank}"
            )
        # The file's scale is in its B; ours multiplies by alpha / rank.
        _copy(uri, trainable, f"{layer}.lora_A.{ADAPTER}.weight", a)
        _copy(uri, trainable, f"{layer}.lora_B.{ADAPTER}.weight", b * (spec.rank / spec.alpha))


def merge(adapter: Adapter, expert: Expert, trainable: Mapping[str, nn.Parameter]) -> None:
    """Add what an adapter changes to full weights. Raises as `Adapter.fitted`, before it adds
    anything."""
    shapes = {name: parameter.shape for name, parameter in trainable.items()}
    changes, left_out = adapter.fitted(expert, shapes)
    _warn(adapter.address, left_out)
    with torch.no_grad():
        for layer, (b, a) in changes.factors.items():
            parameter = trainable[f"{layer}.weight"]
            parameter.add_(b.to(parameter.device) @ a.to(parameter.device))
        for name, difference in changes.differences.items():
            trainable[name].add_(difference.to(trainable[name].device))


def _warn(uri: str, left_out: Collection[str]) -> None:
    if left_out:
        log.warning("initFrom: %s: %s", uri, without_image_branches(left_out))


def into_full(uri: str, paths: Iterable[Path], trainable: Mapping[str, nn.Parameter]) -> None:
    """Overwrite all weights, a tensor at a time."""
    with SafetensorsFiles(list(paths)) as tensors:
        # Copied as they are, numbers of FP8 would lack their scales, or the bits that were cut off.
        if stored := precision(tensors.header()):
            full = "float32, bfloat16 and float16 are read: give the weights it was made of"
            raise _invalid(uri, f"is stored in {stored}, and {full}")
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


@contextmanager
def _of_init_from() -> Iterator[None]:
    """Name the field in what is said of an adapter."""
    try:
        yield
    except InputError as error:
        raise InputError(error.reason, f"initFrom: {error.message}") from error


@contextmanager
def _opened(uri: str, paths: Sequence[Path]) -> Iterator[SafetensorsFiles]:
    """Raises InputError(MODEL_INVALID) for what is no safetensors file."""
    for path in paths:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise _invalid(uri, opening(path)) from error
    with SafetensorsFiles(paths) as tensors:
        yield tensors


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
