#!/usr/bin/env bash
# diffusers 0.42.1, WanLoraLoaderMixin.lora_state_dict: a Wan adapter in ComfyUI's names loses its differences
# of norms (`norm3.diff`, `norm3.diff_b`) and of modulations (`diff_m`). The norms' go at level DEBUG ("just
# zeroed values", whatever they hold), the others at INFO; at the default level nothing is said. Distilled
# adapters have both. Guessed: what is not loaded is named, or refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    diffusers==0.42.1 torch==2.15.0 transformers==5.23.0 peft==0.21.2
"$folder/venv/bin/python" - 2>&1 <<'PY'
import io
import logging

import diffusers
import torch
from diffusers.loaders import WanLoraLoaderMixin

said = io.StringIO()
logging.getLogger("diffusers").addHandler(logging.StreamHandler(said))

block = "diffusion_model.blocks.0"
changes = {
    f"{block}.norm3.diff": torch.ones(8),
    f"{block}.norm3.diff_b": torch.ones(8),
    f"{block}.diff_m": torch.ones(1, 6, 8),
    "diffusion_model.head.diff_m": torch.ones(1, 2, 8),
}
factors = {
    f"{block}.self_attn.q.lora_down.weight": torch.ones(2, 8),
    f"{block}.self_attn.q.lora_up.weight": torch.ones(8, 2),
}
loaded = WanLoraLoaderMixin.lora_state_dict(factors | changes)
print(f"diffusers {diffusers.__version__}, torch {torch.__version__}")
print(f"given {len(factors)} factors and {len(changes)} differences that are not zero")
print(f"loaded: {sorted(loaded)}")
print(f"said: {said.getvalue()!r}")
assert all(".lora_" in name for name in loaded), "the behaviour has changed"
assert len(loaded) == len(factors) and said.getvalue() == "", "the behaviour has changed"
PY
