#!/usr/bin/env bash
# diffsynth 2.1.12, GeneralLoRALoader.fuse_lora_to_base_model: an adapter whose names begin with `pipe.dit.`
# changes nothing: "0 tensors are fused" is printed, and nothing is raised. Such names are those of its own
# trainer: ModelLogger keeps the prefix unless remove_prefix_in_ckpt says otherwise (default None).
# Guessed: its own names are fused, or an adapter of which nothing fits is refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffsynth==2.1.12 torch==2.15.0
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import contextlib
import importlib.metadata
import inspect
import io

import torch
from diffsynth.diffusion.logger import ModelLogger
from diffsynth.utils.lora.general import GeneralLoRALoader


def fused(prefix: str) -> tuple[bool, str]:
    """Whether the layer has changed, and what was printed."""
    model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})
    layer, said = model["blocks"][0], io.StringIO()
    before = layer.weight.detach().clone()
    adapter = {
        f"{prefix}blocks.0.lora_A.default.weight": torch.ones(2, 4),
        f"{prefix}blocks.0.lora_B.default.weight": torch.ones(4, 2),
    }
    with contextlib.redirect_stdout(said):
        GeneralLoRALoader().fuse_lora_to_base_model(model, adapter)
    return not torch.equal(layer.weight, before), said.getvalue().strip()


kept = inspect.signature(ModelLogger).parameters["remove_prefix_in_ckpt"].default
print(f"diffsynth {importlib.metadata.version('diffsynth')}, torch {torch.__version__}")
print(f"ModelLogger(remove_prefix_in_ckpt={kept})")
for prefix in ("", "pipe.dit."):
    print(f"{prefix!r}: changed, said = {fused(prefix)}")
assert kept is None and fused("")[0] and not fused("pipe.dit.")[0], "the behaviour has changed"
PY
