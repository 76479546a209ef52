"""The shapes of the trained weights: the tiny architectures, wider and deeper than the presets'.

Importing this module changes wan_runtime.models.tiny in this process, so that the runtime's steps
and diffsynth's registry work with the larger shapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE
from safetensors.torch import load_file

from wan_runtime.job import Expert
from wan_runtime.models import layout, tiny, tiny_weights
from wan_runtime.presets import Preset

VAE: dict[str, Any] = {"dim": 16, "dim_mult": [1, 2, 3, 3], "z_dim": 16, "num_res_blocks": 1}
"""The released model has dim 96, dim_mult 1, 2, 4, 4 and two residual blocks a stage."""
DIT = {"ffn_dim": 512, "num_layers": 4}
VAE_FILE = "vae.safetensors"


class TinyVAE(WanVideoVAE):  # type: ignore[misc]
    """Takes the place of wan_runtime.models.tiny.TinyVAE."""

    def __init__(self) -> None:
        super().__init__(z_dim=16)
        self.model = VideoVAE_(**VAE).eval().requires_grad_(False)


tiny.DIT21.update(DIT)
tiny.DIT22.update(DIT)
tiny.TinyVAE = TinyVAE


def dit_file(preset: Preset, expert: Expert) -> str:
    return f"{preset.name}-{expert}.safetensors".lower()


def write(preset: Preset, folder: Path, weights: Path) -> None:
    """Write the model into `folder` in the official layout.

    `weights` holds the trained VAE and those transformers that are trained; the others are written
    as their training starts, and so are tensors that the files lack.
    """
    config = tiny.DIT21 if preset.uses_clip else tiny.DIT22
    for expert in preset.experts:
        state = tiny_weights.dit_state(WanModel(**config), f"dit-{expert}", config)
        trained = weights / dit_file(preset, expert)
        if trained.is_file():
            state |= load_file(trained)
        path = folder / layout.EXPERT_FOLDERS[expert] / "diffusion_pytorch_model.safetensors"
        tiny._write(path, state, torch.bfloat16)
    t5 = tiny_weights.text_encoder_state(WanTextEncoder(**tiny.T5))
    tiny._write(folder / layout.TEXT_ENCODER[0], t5, torch.bfloat16)
    tiny._write(folder / layout.VAE[0], load_file(weights / VAE_FILE), torch.float32)
    if preset.uses_clip:
        clip = tiny_weights.image_encoder_state(tiny.TinyImageEncoder())
        tiny._write(folder / layout.IMAGE_ENCODER[0], clip, torch.float32)
    tiny._write_tokenizer(folder / layout.TOKENIZER)
