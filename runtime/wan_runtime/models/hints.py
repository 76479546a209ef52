"""What lies in a place that does not hold a base model, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import PurePosixPath

from wan_runtime.errors import InputError
from wan_runtime.model_parts import DIT, IMAGE_ENCODER, TEXT_ENCODER, VAE
from wan_runtime.models import shapes
from wan_runtime.models.headers import Header
from wan_runtime.models.layout import EXPERT_FOLDERS, Found, find
from wan_runtime.models.places import Place, Volume
from wan_runtime.models.recognise import precision, recognise
from wan_runtime.presets import PRESETS, Preset

NAMED = 3
EXAMINED = 8
"""Files whose headers are read for a hint."""
WEIGHTS = (".safetensors", ".sft", ".gguf", *shapes.PICKLED)
UNFINISHED = (
    ".aria2", ".crdownload", ".download", ".incomplete", ".part", ".partial", ".tmp",
)  # fmt: skip
DIFFUSERS = ("model_index.json", "transformer/*", "transformer_2/*")
"""Paths of a pipeline of diffusers."""
INNER = (
    *filter(None, EXPERT_FOLDERS.values()),
    "google", "umt5-xxl", "transformer", "transformer_2", "text_encoder", "vae", "tokenizer",
)  # fmt: skip
"""Folders within a release, or within a pipeline of diffusers."""
OTHERS = {
    "Wan2.2_VAE.*": "Wan2.2-TI2V-5B",
    "wav2vec2-large-xlsr-53-english/*": "Wan2.2-S2V-14B",
    "process_checkpoint/*": "Wan2.2-Animate-14B",
}
"""A path that one other release alone has -> that release."""
NAMES = {
    DIT: "diffusion_pytorch_model.safetensors",
    TEXT_ENCODER: "models_t5_umt5-xxl-enc-bf16.safetensors",
    VAE: "Wan2.1_VAE.safetensors",
    IMAGE_ENCODER: "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors",
}
"""What a file with the right weights is to be called."""


def of(preset: Preset, place: Place, found: Found, faults: list[str]) -> list[str]:
    """Sentences, the most telling first. `faults`: those of the files that are looked for."""
    if place.is_file:
        what = "It is a file, and the folder of a whole release is wanted"
        return [what, *_files(preset, place), _advice(preset)]
    elsewhere = _elsewhere(preset, place)
    if elsewhere:
        return [elsewhere, *faults]
    seen = [*_layout(place), *_files(preset, place, found), *_leftovers(place), *faults]
    return [*seen, _advice(preset)]


def _advice(preset: Preset) -> str:
    return f"Expected the layout of the official release: {shapes.fetch(preset)}"


def _elsewhere(preset: Preset, place: Place) -> str:
    """The model lies deeper or higher, or it is another release."""
    folders = sorted(
        {str(folder) for name in place.sizes for folder in PurePosixPath(name).parents}
    )
    inner = [
        place.naming(folder)
        for folder in folders
        if folder != "." and not find(preset, _below(place.sizes, folder)).missing
    ]
    if inner:
        return f"It lies deeper: {' or '.join(inner[:NAMED])}"
    for pattern, release in OTHERS.items():
        if any(fnmatch(name, pattern) for name in place.sizes):
            return f"It looks like {release}, which has no preset here: {shapes.fetch(preset)}"
    for other in PRESETS.values():
        alike = other.tiny == preset.tiny and other.experts != preset.experts
        if alike and not find(other, place.sizes).missing:
            return (
                f"It looks like {other.name}: set model.preset to that, or {shapes.fetch(preset)}"
            )
    last = PurePosixPath(place.where.partition("://")[2] or place.where).name
    return f"{last} is a folder within a model: {place.naming('')}" if last in INNER else ""


def _below(names: Iterable[str], folder: str) -> list[str]:
    return [name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")]


def _layout(place: Place) -> Iterator[str]:
    if any(fnmatch(name, pattern) for name in place.sizes for pattern in DIFFUSERS):
        yield "It is a pipeline of diffusers, whose weights bear other names"
    if any("blobs" in PurePosixPath(name).parts for name in place.sizes):
        yield "It is a cache of the hub, whose snapshots are links to blobs: download to a folder"
    if isinstance(place, Volume) and place.dangling:
        yield (
            f"{len(place.dangling)} links in it lead nowhere, such as {place.dangling[0]}: "
            "copy what they lead to as well"
        )


def _files(preset: Preset, place: Place, found: Found | None = None) -> Iterator[str]:
    """What the files are that are not looked for. Of `found`, those that are."""
    known = {name for names in found.parts.values() for name in names} if found else set()
    others = [name for name in place.sizes if name not in known and name.lower().endswith(WEIGHTS)]
    others.sort(key=lambda name: (name.count("/"), name))
    for name in others[:EXAMINED]:
        yield _file(preset, place, name)
    if len(others) > EXAMINED:
        yield f"{len(others) - EXAMINED} more files of weights were not read"


def _file(preset: Preset, place: Place, name: str) -> str:
    try:
        header = place.header(name)
    except InputError as error:
        return error.message
    right = _right(preset, name, header)
    if right and not name.endswith(right):
        return f"{name} holds the right weights: name it {' or '.join(right)}"
    seen, stored = recognise(header), precision(header)
    what = [
        seen.what or "nothing that is known here",
        f"with {seen.naming}" if seen.naming else "",
        f"in {stored}" if stored else "",
    ]
    return f"{name} is {', '.join(filter(None, what))}"


def _right(preset: Preset, name: str, header: Header) -> tuple[str, ...]:
    """What to call a file, if it is a part of the model, whole and in full precision."""
    for part, right in NAMES.items():
        try:
            shapes.check(preset, part, name, header)
        except (InputError, KeyError):
            continue
        if part != DIT:
            return (right,)
        # Experts have the same tensors: only its own name may show which.
        folders = [EXPERT_FOLDERS[expert] for expert in preset.experts]
        said = [folder for folder in folders if folder.split("_")[0] in name.lower()]
        chosen = said if len(said) == 1 else folders
        return tuple(f"{folder}/{right}".lstrip("/") for folder in chosen)
    return ()


def _leftovers(place: Place) -> Iterator[str]:
    names = sorted(name for name in place.sizes if name.endswith(UNFINISHED))
    if names:
        yield f"Downloads did not end: {', '.join(names[:NAMED])}"
