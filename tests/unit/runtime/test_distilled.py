"""A distilled LoRA as lightx2v publishes them, on a video."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from renders import adapter, make_renderer, make_task, modules, rendered
from wan_runtime.contract.steps import Expert
from wan_runtime.models.dit.transformer import Pass
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]

RANK, ALPHA = 4, 2.0


def written(path: Path, dit: nn.Module) -> dict[str, Tensor]:
    """What each parameter grows by. A file of factors with an alpha and a difference of the bias
    for each linear layer of the blocks, and of differences for their norms."""
    draw = torch.Generator().manual_seed(3)
    tensors: dict[str, Tensor] = {}
    grown: dict[str, Tensor] = {}

    def drawn(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=draw) * scale

    for name, layer in dit.named_modules():
        if not name.startswith("blocks."):
            continue
        key, weight = f"diffusion_model.{name}", getattr(layer, "weight", None)
        if isinstance(layer, nn.Linear):
            up = drawn(layer.out_features, RANK, scale=0.1)
            down = drawn(RANK, layer.in_features, scale=0.1)
            bias = drawn(layer.out_features, scale=0.05)
            tensors |= {
                f"{key}.lora_up.weight": up,
                f"{key}.lora_down.weight": down,
                f"{key}.alpha": torch.tensor(ALPHA),
                f"{key}.diff_b": bias,
            }
            grown |= {f"{name}.weight": ALPHA / RANK * up @ down, f"{name}.bias": bias}
        elif isinstance(weight, Tensor):
            tensors[f"{key}.diff"] = drawn(*weight.shape, scale=0.05)
            grown[f"{name}.weight"] = tensors[f"{key}.diff"]
    save_file(tensors, path)
    return grown


def test_four_passes_make_what_merged_weights_make(
    tiny21: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[Pass] = []
    velocity = Pass.velocity
    monkeypatch.setattr(
        Pass, "velocity", lambda on, *inputs: (passes.append(on), velocity(on, *inputs))[1]
    )
    renderer = make_renderer(tiny21)
    (dit,) = modules(renderer).values()
    grown = written(tmp_path / "turbo.safetensors", dit)
    use = adapter("turbo", {Expert.ONLY: tmp_path / "turbo.safetensors"})
    schedule = {"steps": 4, "shift": 5.0, "guidance": 1.0, "guidance_low": 1.0}
    found = rendered(renderer, make_task(tmp_path, use, **schedule)).latents
    assert len(passes) == 4
    base = rendered(renderer, make_task(tmp_path, **schedule)).latents
    before = copy.deepcopy(dit.state_dict())
    with torch.no_grad():
        for name, parameter in dit.named_parameters():
            if name in grown:
                parameter.add_(grown[name])
    wanted = rendered(renderer, make_task(tmp_path, **schedule)).latents
    dit.load_state_dict(before)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5
    assert float((base - wanted).norm() / wanted.norm()) > 0.05
