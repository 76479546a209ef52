"""Which files make up a base model, in the official releases' layout.

Wan-AI/Wan2.1-I2V-14B-720P, -480P and Wan-AI/Wan2.2-I2V-A14B. The encoders and the VAE are released
as `.pth`; the same files converted to safetensors
(DiffSynth-Studio/Wan-Series-Converted-Safetensors) keep their stem, and are taken first: they load
without unpickling and without a second pass over the file.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def locate(preset: Preset, folder: Path) -> ModelFiles:
    """Files of `preset` below `folder`.

    Raises:
        InputError: MODEL_NOT_FOUND; the message lists the names looked for that are not there.
    """
    missing: list[str] = []

    def first(names: tuple[str, ...]) -> Path:
        for name in names:
            if (folder / name).is_file():
                return folder / name
        missing.append(" or ".join(names))
        return folder / names[0]

    dits: dict[Expert, tuple[Path, ...]] = {}
    for expert in preset.experts:
        shards = tuple(sorted((folder / EXPERT_FOLDERS[expert]).glob(DIT_SHARDS)))
        if not shards:
            missing.append("/".join(part for part in (EXPERT_FOLDERS[expert], DIT_SHARDS) if part))
        dits[expert] = shards
    text_encoder, vae = first(TEXT_ENCODER), first(VAE)
    image_encoder = first(IMAGE_ENCODER) if preset.uses_clip else None
    tokenizer = folder / TOKENIZER
    if not tokenizer.is_dir() or not any(tokenizer.iterdir()):
        missing.append(f"{TOKENIZER}/")
    if missing:
        raise InputError(
            Reason.MODEL_NOT_FOUND,
            f"{folder} does not hold {preset.name}: missing {'; '.join(missing)}. "
            "Expected the layout of the official release.",
        )
    return ModelFiles(preset, folder, dits, text_encoder, tokenizer, vae, image_encoder)
