"""Which files make up a base model, in the official releases' layout.

Wan-AI/Wan2.1-I2V-14B-720P, -480P and Wan-AI/Wan2.2-I2V-A14B. The encoders and the VAE are released
as `.pth`; the same files converted to safetensors
(DiffSynth-Studio/Wan-Series-Converted-Safetensors) keep their stem, and are taken first: they load
without unpickling and without a second pass over the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from wan_runtime.errors import InputError
from wan_runtime.job import Expert, Reason
from wan_runtime.presets import Preset

TEXT_ENCODER = ("models_t5_umt5-xxl-enc-bf16.safetensors", "models_t5_umt5-xxl-enc-bf16.pth")
VAE = ("Wan2.1_VAE.safetensors", "Wan2.1_VAE.pth")
IMAGE_ENCODER = (
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors",
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
)
TOKENIZER = "google/umt5-xxl"
TOKENIZER_PART = "tokenizer"
DIT_SHARDS = "diffusion_pytorch_model*.safetensors"
EXPERT_FOLDERS = {
    Expert.ONLY: "",
    Expert.HIGH_NOISE: "high_noise_model",
    Expert.LOW_NOISE: "low_noise_model",
}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one base model, all present."""

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

    def tokenizer_files(self) -> tuple[Path, ...]:
        return tuple(sorted(path for path in self.tokenizer.iterdir() if path.is_file()))


def select(preset: Preset, names: Iterable[str], where: str) -> dict[str, tuple[str, ...]]:
    """Part -> its files, sorted, out of all the paths that there are: `dit` (or `dit-HighNoise`,
    `dit-LowNoise`), `text_encoder`, `vae`, `image_encoder` and `tokenizer`.

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
    first("text_encoder", TEXT_ENCODER)
    first("vae", VAE)
    if preset.uses_clip:
        first("image_encoder", IMAGE_ENCODER)
    matching(TOKENIZER_PART, f"{TOKENIZER}/*")
    if missing:
        raise InputError(
            Reason.MODEL_NOT_FOUND,
            f"{where} does not hold {preset.name}: missing {'; '.join(missing)}. "
            "Expected the layout of the official release.",
        )
    return parts


def dit_part(expert: Expert) -> str:
    return "dit" if expert is Expert.ONLY else f"dit-{expert}"


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
    parts = {
        part: tuple(folder / name for name in files)
        for part, files in select(preset, names, str(folder)).items()
    }
    return ModelFiles(
        preset=preset,
        folder=folder,
        dits={expert: parts[dit_part(expert)] for expert in preset.experts},
        text_encoder=parts["text_encoder"][0],
        tokenizer=folder / TOKENIZER,
        vae=parts["vae"][0],
        image_encoder=parts["image_encoder"][0] if preset.uses_clip else None,
    )
