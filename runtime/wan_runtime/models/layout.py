"""Which files make up a base model, in the official releases' layout.

Wan-AI/Wan2.1-I2V-14B-720P, -480P and Wan-AI/Wan2.2-I2V-A14B. The encoders and the VAE are released
as `.pth`; the same files converted to safetensors
(DiffSynth-Studio/Wan-Series-Converted-Safetensors) keep their stem, and are taken first: they load
without unpickling and without a second pass over the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from wan_runtime import model_parts as part_names
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.model_parts import dit_part
from wan_runtime.presets import Preset

TEXT_ENCODER = ("models_t5_umt5-xxl-enc-bf16.safetensors", "models_t5_umt5-xxl-enc-bf16.pth")
VAE = ("Wan2.1_VAE.safetensors", "Wan2.1_VAE.pth")
IMAGE_ENCODER = (
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors",
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
)
TOKENIZER = "google/umt5-xxl"
TOKENIZER_FILES = (f"{TOKENIZER}/tokenizer.json", f"{TOKENIZER}/tokenizer_config.json")
"""Those that cannot be done without: `spiece.model` beside them would do for no library that is
here, and captions are counted with the first."""
DIT_SHARDS = "diffusion_pytorch_model*.safetensors"
NAMED = 3
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
EXPERT_FOLDERS = {
    Expert.ONLY: "",
    Expert.HIGH_NOISE: "high_noise_model",
    Expert.LOW_NOISE: "low_noise_model",
}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one base model. Of a model that was fetched for a step, those of the parts that
    the step loads are present."""

    preset: Preset
    folder: Path
    dits: dict[Expert, tuple[Path, ...]]
    """Shards of each expert, sorted."""
    text_encoder: Path
    tokenizer: Path
    """Folder."""
    vae: Path
    image_encoder: Path | None
    """Wan2.1 only."""
    tokenizer_files: tuple[Path, ...]
    """Sorted."""
    verified: Mapping[Path, tuple[int, str]] = field(default_factory=dict)
    """Bytes and SHA-256 as the import step found them, also of parts that are not present; empty
    for a model that was not imported."""


def encoder_files(files: ModelFiles) -> tuple[Path, ...]:
    """What reads prompts and pictures, and the VAE: all of a model but its transformers."""
    image = () if files.image_encoder is None else (files.image_encoder,)
    return (files.text_encoder, *files.tokenizer_files, files.vae, *image)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a model among some paths."""

    parts: dict[str, tuple[str, ...]]
    """Part, as `wan_runtime.model_parts` names it, -> its files, sorted; empty if it has none."""
    missing: dict[str, tuple[str, ...]]
    """Part -> names looked for that are not there; of no other parts."""

    @property
    def text(self) -> str:
        """What is missing, in a line."""
        return "; ".join(name for names in self.missing.values() for name in names)


def find(preset: Preset, names: Iterable[str]) -> Found:
    """The files of `preset` among all the paths that there are."""
    present = set(names)
    parts: dict[str, tuple[str, ...]] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for expert in preset.experts:
        folder = EXPERT_FOLDERS[expert]
        pattern = f"{folder}/{DIT_SHARDS}" if folder else DIT_SHARDS
        parts[dit_part(expert)] = shards = _beside(pattern, present)
        missing[dit_part(expert)] = _missing_shards(shards) if shards else (pattern,)
    choices = {part_names.TEXT_ENCODER: TEXT_ENCODER, part_names.VAE: VAE}
    if preset.uses_clip:
        choices[part_names.IMAGE_ENCODER] = IMAGE_ENCODER
    for part, files in choices.items():
        parts[part] = tuple(name for name in files if name in present)[:1]
        missing[part] = () if parts[part] else (" or ".join(files),)
    parts[part_names.TOKENIZER] = tokenizer = _beside(f"{TOKENIZER}/*", present)
    missing[part_names.TOKENIZER] = (
        tuple(name for name in TOKENIZER_FILES if name not in present)
        if tokenizer
        else (f"{TOKENIZER}/",)
    )
    return Found(parts, {part: names for part, names in missing.items() if names})


def _beside(pattern: str, names: Iterable[str]) -> tuple[str, ...]:
    """Names in the folder of the pattern that it matches, sorted."""
    folder = pattern.rpartition("/")[0]
    return tuple(
        sorted(
            name
            for name in names
            if name.rpartition("/")[0] == folder and fnmatchcase(name, pattern)
        )
    )


def _missing_shards(names: Iterable[str]) -> tuple[str, ...]:
    """Names of the missing shards of each set, which the count in its other names implies."""
    sets: dict[tuple[str, str], set[int]] = {}
    for name in names:
        if numbered := SHARD.fullmatch(name):
            sets.setdefault((numbered["stem"], numbered["count"]), set()).add(
                int(numbered["number"])
            )
    return tuple(
        _listed([f"{stem}-{at:05d}-of-{count}.safetensors" for at in sorted(gone)])
        for (stem, count), there in sets.items()
        if (gone := set(range(1, int(count) + 1)) - there)
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def select(preset: Preset, names: Iterable[str], where: str) -> dict[str, tuple[str, ...]]:
    """Part -> its files, as `find` has them.

    Raises:
        InputError: MODEL_NOT_FOUND; the message lists the names looked for that are not there.
    """
    found = find(preset, names)
    if found.missing:
        raise InputError(
            Reason.MODEL_NOT_FOUND, f"{where} does not hold {preset.name}: missing {found.text}"
        )
    return found.parts


def locate(preset: Preset, folder: Path) -> ModelFiles:
    """Files of `preset` below `folder`.

    Raises:
        InputError: MODEL_NOT_FOUND; the message lists the names looked for that are not there.
    """
    folders = {"", TOKENIZER, *(EXPERT_FOLDERS[expert] for expert in preset.experts)}
    names = [
        path.relative_to(folder).as_posix()
        for each in folders
        if (folder / each).is_dir()
        for path in (folder / each).iterdir()
        if path.is_file()
    ]
    return arrange(preset, folder, names)


def arrange(preset: Preset, folder: Path, names: Iterable[str]) -> ModelFiles:
    """The files of `preset` among `names`, paths below `folder`. Raises as `select` does."""
    parts = {
        part: tuple(folder / name for name in files)
        for part, files in select(preset, names, str(folder)).items()
    }
    return ModelFiles(
        preset=preset,
        folder=folder,
        dits={expert: parts[dit_part(expert)] for expert in preset.experts},
        text_encoder=parts[part_names.TEXT_ENCODER][0],
        tokenizer=folder / TOKENIZER,
        vae=parts[part_names.VAE][0],
        image_encoder=parts[part_names.IMAGE_ENCODER][0] if preset.uses_clip else None,
        tokenizer_files=parts[part_names.TOKENIZER],
    )
