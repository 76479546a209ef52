"""Adapters at work on a GPU: factors, and differences of weights, biases, norms and modulations.

    PYTHONPATH=runtime:tests python tests/gpu/adapters.py --out rows.json

On the Tiny presets, with transformers that stay on the GPU and with a pair that takes turns. Prints
a line a row and exits 1 if a check fails. Runs on a CPU too, where nothing takes turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from renders import adapter, make_task, modules, rendered
from wan_runtime.models import tiny
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.layout import ModelFiles, locate
from wan_runtime.presets import PRESETS
from wan_runtime.rendering import model as model_module
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.render import Renderer

STRENGTH = 0.75
NO_WORSE = 1.1
"""Times the error of merged weights in the same type, both against merged weights in float32."""
EXACT = 1e-4
"""Relative difference from merged weights in float32 itself."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for name in ("Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny"):
        with tempfile.TemporaryDirectory() as folder:
            row = measure(name, Path(folder), device)
        rows.append(row)
        print(json.dumps(row), flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(not all(row["ok"] for row in rows))


def measure(name: str, folder: Path, device: torch.device) -> dict[str, Any]:
    """Renders without, with, and without the adapter again, and on merged weights."""
    tiny.write(PRESETS[name], folder / "model")
    files = locate(PRESETS[name], folder / "model")
    renderer = open_renderer(files, device)
    dits = modules(renderer)
    paths = {expert: write_changes(folder / f"{expert}.safetensors", dit, number)
             for number, (expert, dit) in enumerate(dits.items())}  # fmt: skip
    use = adapter("changes", paths, STRENGTH)

    def latents(of: Renderer, *adapters: Any) -> Tensor:
        return rendered(of, make_task(folder, *adapters)).latents.float().cpu()

    base, changed, again = latents(renderer), latents(renderer, use), latents(renderer)
    repeated = latents(renderer, use)
    turns = None
    if device.type == "cuda" and len(dits) > 1:
        other = open_renderer(files, device, takes_turns=True)
        turns = torch.equal(latents(other, use), changed) and torch.equal(latents(other), base)
    merged, exact = open_renderer(files, device), open_renderer(files, torch.device("cpu"))
    for each in (merged, exact):
        for expert, dit in modules(each).items():
            merge(dit, paths[expert])
    wanted = latents(exact)
    error, usual = relative(changed, wanted), relative(latents(merged), wanted)
    row: dict[str, Any] = {
        "preset": name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": str(renderer.model.dtype),
        "changes": relative(changed, base),
        "error": error,
        "error of merged weights": usual,
        "base again": torch.equal(base, again),
        "repeats": torch.equal(changed, repeated),
        "takes turns alike": turns,
    }
    close = error < max(EXACT, NO_WORSE * usual) < row["changes"]
    return {**row, "ok": close and row["base again"] and row["repeats"] and turns is not False}


def open_renderer(files: ModelFiles, device: torch.device, takes_turns: bool = False) -> Renderer:
    """A rank alone. `takes_turns`: as of transformers that fill the GPU."""
    turns = mock.patch.object(model_module, "placement_of", return_value="Turns")
    with turns if takes_turns else nullcontext():
        model = Model(files, alone(), device)
    return Renderer(model, AdapterCache(2**30, model.dtype))


def write_changes(path: Path, dit: nn.Module, seed: int) -> Path:
    """A file as distilled models have it: factors of every q, a difference of all else."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, parameter in dit.named_parameters():
        if not name.startswith("blocks."):
            continue
        layer, _, kind = name.rpartition(".")
        key = f"diffusion_model.{layer}"
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(".q.weight"):
            out, into = parameter.shape
            tensors[f"{key}.lora_up.weight"] = torch.randn(out, 2, generator=generator) / 8
            tensors[f"{key}.lora_down.weight"] = torch.randn(2, into, generator=generator) / 8
        elif kind == "bias":
            tensors[f"{key}.diff_b"] = noise / 20
        elif kind == "weight":
            tensors[f"{key}.diff"] = noise / 50
        elif kind == "modulation":
            tensors[f"{key}.diff_m"] = noise / 50
    save_file(tensors, path)
    return path


def merge(dit: nn.Module, path: Path) -> None:
    """By the file's own meaning, without our reader."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    for name, parameter in dit.named_parameters():
        layer, _, kind = name.rpartition(".")
        key = f"diffusion_model.{layer}"
        ending = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}.get(kind, "")
        grown = tensors.get(f"{key}.{ending}")
        if f"{key}.lora_up.weight" in tensors and kind == "weight":
            grown = tensors[f"{key}.lora_up.weight"] @ tensors[f"{key}.lora_down.weight"]
        if grown is not None:
            sum_ = parameter.data.float().cpu() + STRENGTH * grown
            parameter.data.copy_(sum_.to(parameter.dtype))


def relative(one: Tensor, other: Tensor) -> float:
    return round(float((one - other).norm() / other.norm()), 6)


if __name__ == "__main__":
    main()
