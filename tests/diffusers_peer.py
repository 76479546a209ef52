"""Stock diffusers beside the tiny models: its transformer with their weights, its prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file

from passes import velocity_of
from wan_runtime.contract.steps import Expert
from wan_runtime.models import load
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.tiny import DIT21

# Shapes: B batch, C channels, T latent frames, H W latent rows and columns.

SIGMA = torch.tensor([0.93])
NAMES = {
    Expert.ONLY: "transformer",
    Expert.HIGH_NOISE: "transformer",
    Expert.LOW_NOISE: "transformer_2",
}
"""Of the models in diffusers' pipeline."""


def check_same_change(files: ModelFiles, expert: Expert, ours: Path, theirs: Path) -> None:
    """The adapter `ours` through diffsynth's `load_lora` and `theirs` through diffusers'
    `load_lora_weights` change the expert's prediction by the same.
    """
    noisy, conditions = random_inputs(clip=files.preset.uses_clip)
    diffsynth = load.load_pipeline(files, torch.float32, torch.device("cpu"))
    dit = diffsynth.dit2 if expert is Expert.LOW_NOISE else diffsynth.dit
    models = {NAMES[each]: stock_transformer(files, each) for each in files.preset.experts}
    diffusers = WanImageToVideoPipeline(None, None, None, None, **models)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            velocity = velocity_of(dit, noisy, SIGMA, conditions, dtype=torch.float32)
        return velocity, predict(models[NAMES[expert]], noisy, SIGMA, conditions)

    before = both()
    diffsynth.load_lora(dit, str(ours))
    second = {"load_into_transformer_2": True} if expert is Expert.LOW_NOISE else {}
    diffusers.load_lora_weights(str(theirs.parent), weight_name=theirs.name, **second)
    after = both()

    assert torch.allclose(*before, atol=1e-4)
    change = after[0] - before[0]
    assert float(change.norm() / before[0].norm()) > 1e-4
    assert float((after[1] - before[1] - change).norm() / change.norm()) < 1e-2


def stock_transformer(files: ModelFiles, expert: Expert) -> Any:
    """diffusers' transformer with the same base weights, through diffusers' own conversion."""
    clip = files.preset.uses_clip
    model = WanTransformer3DModel(
        num_attention_heads=DIT21["num_heads"],
        attention_head_dim=DIT21["dim"] // DIT21["num_heads"],
        in_channels=DIT21["in_dim"],
        out_channels=DIT21["out_dim"],
        text_dim=DIT21["text_dim"],
        freq_dim=DIT21["freq_dim"],
        ffn_dim=DIT21["ffn_dim"],
        num_layers=DIT21["num_layers"],
        image_dim=1280 if clip else None,
        added_kv_proj_dim=DIT21["dim"] if clip else None,
    )
    state = {name: value.float() for name, value in load_file(files.dits[expert][0]).items()}
    model.load_state_dict(convert_wan_transformer_to_diffusers(state))
    return model.eval()


def random_inputs(*, clip: bool) -> tuple[torch.Tensor, Conditions]:
    """Latents [B, C, T, H, W] and what they are conditioned on, from a seed."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 16, 3, 6, 8, generator=generator), Conditions(
        torch.randn(1, 512, 64, generator=generator),
        torch.randn(1, 20, 3, 6, 8, generator=generator),
        torch.randn(1, 257, 1280, generator=generator) if clip else None,
    )


@torch.no_grad()
def predict(
    transformer: Any, noisy: torch.Tensor, sigma: torch.Tensor, conditions: Conditions
) -> torch.Tensor:
    """diffusers' own forward pass. `sigma`: [B], noise level in [0, 1]."""
    velocity: torch.Tensor = transformer(
        hidden_states=torch.cat([noisy, conditions.y_BCTHW], dim=1),
        timestep=sigma * 1000,
        encoder_hidden_states=conditions.context_BLD,
        encoder_hidden_states_image=conditions.clip_BLD,
        return_dict=False,
    )[0]
    return velocity
