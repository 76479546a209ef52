"""Which files make up a base model, in the official releases' layout.

Wan-AI/Wan2.1-I2V-14B-720P, -480P and Wan-AI/Wan2.2-I2V-A14B. The encoders and the VAE are released
as `.pth`; the same files converted to safetensors
(DiffSynth-Studio/Wan-Series-Converted-Safetensors) keep their stem, and are taken first: they load
without unpickling and without a second pass over the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from wan_runtime import parts as part_names
from wan_runtime.errors import InputError
from wan_runtime.job import Expert, Reason
from wan_runtime.parts import dit_part
from wan_runtime.presets import Preset

TEXT_ENCODER = ("models_t5_umt5-xxl-enc-bf16.safetensors", "models_t5_umt5-xxl-enc-bf16.pth")
VAE = ("Wan2.1_VAE.safetensors", "Wan2.1_VAE.pth")
IMAGE_ENCODER = (
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors",
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
)
TOKENIZER = "google/umt5-xxl"
DIT_SHARDS = "diffusion_pytorch_model*.safetensors"
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


def select(preset: Preset, names: Iterable[str], where: str) -> dict[str, tuple[str, ...]]:
    """Part, as `wan_runtime.parts` names it, -> its files, sorted, out of all the paths that there
    are.

    Raises:
        InputError: MODEL_NOT_FOUND; the message lists the names looked for that are not there.
    """
    present = set(names)
    missing: list[str] = []
    parts: dict[str, tuple[str, ...]] = {}

    def matching(part: str, pattern: str) -> None:
        folder = pattern.rpartition("/")[0]
        parts[part] = tuple(
            sorted(
                name
                for name in present
                if name.rpartition("/")[0] == folder and fnmatchcase(name, pattern)
            )
        )
        if not parts[part]:
            missing.append(pattern.removesuffix("*"))

    def first(part: str, choices: tuple[str, ...]) -> None:
        parts[part] = tuple(name for name in choices if name in present)[:1]
        if not parts[part]:
            missing.append(" or ".join(choices))

    for expert in preset.experts:
        folder = EXPERT_FOLDERS[expert]
        matching(dit_part(expert), f"{folder}/{DIT_SHARDS}" if folder else DIT_SHARDS)
    first(part_names.TEXT_ENCODER, TEXT_ENCODER)
    first(part_names.VAE, VAE)
    if preset.uses_clip:
        first(part_names.IMAGE_ENCODER, IMAGE_ENCODER)
    matching(part_names.TOKENIZER, f"{TOKENIZER}/*")
    # spiece.model beside it would do for no library that is here, and captions are counted with it.
    if parts[part_names.TOKENIZER] and f"{TOKENIZER}/tokenizer.json" not in present:
        missing.append(f"{TOKENIZER}/tokenizer.json")
    if missing:
        raise InputError(
            Reason.MODEL_NOT_FOUND,
            f"{where} does not hold {preset.name}: missing {'; '.join(missing)}. "
            "Expected the layout of the official release.",
        )
    return parts


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
