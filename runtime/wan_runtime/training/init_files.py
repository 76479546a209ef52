"""The files that `initFrom` names: of an artifact of ours, a safetensors file, or shards."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from wan_runtime.artifacts import manifest, space
from wan_runtime.artifacts.manifest import Manifest
from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.foreign import opening
from wan_runtime.models.digest import files_digest
from wan_runtime.models.weights import SafetensorsFiles
from wan_runtime.presets import PRESETS

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


def fetch(uri: str, store: Store, expert: Expert, folder: Path) -> Source:
    """The files at `uri` that belong to `expert`: of an artifact's folder or manifest, one
    `.safetensors` object, or the shards of an index, which `uri` or its folder names.
    """
    bucket, (_, key) = store.for_uri(uri), store.parse(uri)
    folder.mkdir(parents=True, exist_ok=True)
    if key.endswith(".safetensors"):
        info = bucket.stat(key)
        if info is None:
            raise missing(uri, "does not exist")
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
        raise missing(
            uri,
            f"has no manifest.json, and no *{INDEX} {at_top}in {below}: give an export's folder, "
            f"a .safetensors file, or the *{INDEX} of shards",
        )
    if len(found) > 1:
        names = " or ".join(sorted(map(bucket.uri, found)))
        raise invalid(uri, f"holds more than one index: give {names}")
    return found[0]


def fetch_shards(uri: str, bucket: Store, index: str, folder: Path) -> Source:
    """The files that an index names, each with just the tensors that it says."""
    shards = read_index(uri, bucket, index)
    space.require(folder, sum(shards.sizes.values()), f"fetching {uri}")
    paths = [folder / name for name in shards.sizes]
    for path in paths:
        bucket.download(shards.key(path.name), path, bytes=shards.sizes[path.name])
        with opened(uri, [path]) as tensors:
            shards.require(uri, path.name, tensors)
    return Source(shards.place, files_digest(paths), tuple(paths))


@dataclass(frozen=True, slots=True)
class Shards:
    """What an index says of the files beside it."""

    place: str
    """Address of the index."""
    folder: str
    """Key of the folder that holds it, with a slash at the end unless it is the bucket's root."""
    files: Mapping[str, str]
    """Name of the file of each tensor."""
    sizes: Mapping[str, int]
    """Bytes of each file, by its name."""

    def key(self, name: str) -> str:
        return self.folder + name

    def require(self, uri: str, name: str, tensors: Collection[str]) -> None:
        """Raises InputError(MODEL_INVALID) if a file has other tensors than the index says."""
        odd = set(tensors) ^ {tensor for tensor, at in self.files.items() if at == name}
        if odd:
            raise invalid(uri, f"differs from {self.place}, which is wrong about {min(odd)}")


def read_index(uri: str, bucket: Store, index: str) -> Shards:
    """The index of shards, all of which are there. Raises InputError: MODEL_NOT_FOUND,
    MODEL_INVALID."""
    place = bucket.uri(index)
    if bucket.stat(index) is None:
        raise missing(uri, "does not exist")
    try:
        of_tensors = dict(json.loads(bucket.get_bytes(index))["weight_map"])
        names = sorted({str(name) for name in of_tensors.values()})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        text = f"has no weight_map in {place}: give the index that was saved with its shards"
        raise invalid(uri, text) from error
    if not names or any("/" in name or not name.endswith(".safetensors") for name in names):
        raise invalid(uri, f"names other things than .safetensors files beside it in {place}")
    folder = index.removesuffix(Path(index).name)
    sizes = {name: info.bytes for name in names if (info := bucket.stat(folder + name)) is not None}
    lacking = [name for name in names if name not in sizes]
    if lacking:
        raise missing(uri, f"lacks {len(lacking)} files that {place} names, such as {lacking[0]}")
    return Shards(place, folder, of_tensors, sizes)


def files_of(uri: str, content: Manifest, expert: Expert) -> tuple[str, ...]:
    """Files of an artifact with the weights of `expert`, in one of the formats it has."""
    its = content.lineage
    preset = PRESETS.get(its.preset)
    if content.kind not in TRAINABLE_KINDS or preset is None:
        raise invalid(uri, f"is a set of {content.kind}, not of weights")
    if expert not in preset.experts or (content.kind == "training" and its.expert is not expert):
        held = its.expert if content.kind == "training" else " and ".join(preset.experts)
        raise invalid(uri, f"holds {held} of {its.preset}; this run trains {expert}")
    if content.kind == "training":
        return tuple(entry.path for entry in content.files if entry.path.endswith(".safetensors"))
    formats = (content.certified(form) for form in Dialect)
    paths = next((paths for paths in formats if paths), ())
    chosen = tuple(path for path in paths if re.search(OF_EXPERT[expert], path))
    if not chosen:
        raise invalid(uri, f"has no weights of {expert}")
    return chosen


@contextmanager
def opened(uri: str, paths: Sequence[Path]) -> Iterator[SafetensorsFiles]:
    """Raises InputError(MODEL_INVALID) for what is no safetensors file."""
    for path in paths:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise invalid(uri, opening(path)) from error
    with SafetensorsFiles(paths) as tensors:
        yield tensors


def missing(uri: str, what: str) -> InputError:
    return InputError(Reason.MODEL_NOT_FOUND, f"initFrom: {uri} {what}")


def invalid(uri: str, what: str) -> InputError:
    return InputError(Reason.MODEL_INVALID, f"initFrom: {uri} {what}")
