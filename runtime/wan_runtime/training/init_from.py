"""Starting from existing weights: `initFrom`, an artifact of ours, a safetensors file, or shards.

The names of DiffSynth, ComfyUI and diffusers are understood, of adapters and of full weights.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from diffsynth.utils.state_dict_converters.wan_video_dit import WanVideoDiTFromDiffusers
from torch import nn

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.training import LoraSpec
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.changes import Adapter, Changes, without_image_branches
from wan_runtime.models.adapters.dialects import ADAPTER, is_adapter, read_adapter
from wan_runtime.models.adapters.layer_names import is_image_branch
from wan_runtime.models.headers import Header
from wan_runtime.models.recognise import precision
from wan_runtime.models.weights import SafetensorsFiles
from wan_runtime.presets import PRESETS
from wan_runtime.training.init_files import fetch, invalid, opened

log = logging.getLogger(__name__)

# Shapes: O out and I in features of a layer, R rank. A is [R, I], B is [O, R].


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
    with opened(uri, source.paths) as tensors:
        adapts = is_of_adapter(uri, tensors, len(source.paths), spec.lora)
    if adapts:
        from_adapter(job, uri, source.paths[0], trainable)
    else:
        into_full(uri, source.paths, trainable)
    shutil.rmtree(work / "initial")  # tens of gigabytes that checkpoints may need
    return {"uri": source.uri, "sha256": source.sha256}


def is_of_adapter(uri: str, names: Collection[str], files: int, lora: LoraSpec | None) -> bool:
    """Whether tensors of these names, in so many files, are an adapter. Raises InputError for what
    the method cannot start from."""
    adapts = is_adapter(names)
    if adapts and files > 1:
        raise invalid(uri, "is an adapter in several files: give one .safetensors file")
    if lora is not None and not adapts:
        raise invalid(uri, "holds no adapter: to train one on full weights, name them as the model")
    return adapts


def from_adapter(job: JobSpec, uri: str, path: Path, trainable: Mapping[str, nn.Parameter]) -> None:
    """Overwrite a fresh adapter with that of the file, or merge it into full weights. Raises
    InputError(MODEL_INVALID)."""
    spec = finetune_of(job)
    with _of_init_from():
        adapter = read_adapter(path, uri)
        changes = adapter.of(job.expert)
    if spec.lora is not None:
        image = PRESETS[job.base.preset].uses_clip
        into_adapter(uri, changes, trainable, spec.lora, has_image_branches=image)
    else:
        with _of_init_from():
            merge(adapter, job.expert, trainable)


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
        raise invalid(uri, "changes nothing but image branches, which this model has not")
    _warn(uri, lacking)
    if changes.differences:
        raise invalid(
            uri,
            f"changes {len(changes.differences)} parameters by what no LoRA holds, such as "
            f"{min(changes.differences)}: start full fine-tuning from it, or serve it beside yours",
        )
    layers = {name.partition(".lora_A.")[0] for name in trainable if ".lora_A." in name}
    surplus = sorted(changes.factors.keys() - layers)
    if surplus:
        raise invalid(
            uri,
            f"adapts {len(surplus)} layers that method.lora.targetModules does not, such as "
            f"{surplus[0]}",
        )
    for layer, (b, a) in changes.factors.items():
        if a.shape[0] != spec.rank:
            raise invalid(
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
        names = of_full(uri, tensors.header(), trainable)
        for name in trainable:
            _copy(uri, trainable, name, tensors[names[name]])


def of_full(uri: str, found: Header, trainable: Mapping[str, nn.Parameter]) -> dict[str, str]:
    """The file's name of each parameter. Raises InputError(MODEL_INVALID) for other weights than
    those of the transformer that is trained."""
    # Copied as they are, numbers of FP8 would lack their scales, or the bits that were cut off.
    if stored := precision(found):
        full = "float32, bfloat16 and float16 are read: give the weights it was made of"
        raise invalid(uri, f"is stored in {stored}, and {full}")
    names = _official(list(found.tensors))
    lacking = sorted(trainable.keys() - names.keys())
    surplus = sorted(names.keys() - trainable.keys())
    if lacking or surplus:
        odd = (lacking or surplus)[0]
        raise invalid(
            uri,
            f"is no transformer of this preset: {len(lacking)} tensors are missing and "
            f"{len(surplus)} are not known, such as {odd}",
        )
    for name, parameter in trainable.items():
        shape = found.tensors[names[name]].shape
        if shape != tuple(parameter.shape):
            raise _misfit(uri, name, shape, tuple(parameter.shape))
    return names


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


def _misfit(
    uri: str, name: str, found: tuple[int, ...], wanted: tuple[int, ...] | None
) -> InputError:
    there = "none" if wanted is None else "x".join(map(str, wanted))
    return invalid(
        uri, f"is for another model: {name} is {'x'.join(map(str, found))} there and {there} here"
    )
