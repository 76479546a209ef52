#!/usr/bin/env bash
# diffusers 0.42.1, PyramidAttentionBroadcastConfig on WanTransformer3DModel: with a skip range of 2 for self- and
# cross-attention, the pass of the negative prompt takes the attention that the pass of the positive one has just
# computed, in every step. Both passes give the same bits, so guidance of any scale changes nothing, and nothing is
# said. The names that WanPipeline gives the two passes (`cache_context`) are not looked at, as they are by the other
# caches. Guessed: each of the two passes of a step has a state of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    diffusers==0.42.1 torch==2.15.0 transformers==5.23.0
"$folder/venv/bin/python" - 2>&1 <<'PY'
import diffusers
import torch
from diffusers import PyramidAttentionBroadcastConfig, WanTransformer3DModel

STEPS = (900, 800, 700)
drawn = torch.Generator().manual_seed(1)
latents = torch.randn(1, 16, 2, 8, 8, generator=drawn)
prompts = {name: torch.randn(1, 7, 32, generator=drawn) for name in ("cond", "uncond")}


def differences(cached: bool) -> list[float]:
    """What the prompt makes of each step: positive less negative prediction, relative."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16,
        out_channels=16, text_dim=32, freq_dim=16, ffn_dim=32, num_layers=2,
        cross_attn_norm=True, rope_max_seq_len=32,
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    now = 0
    if cached:
        model.enable_cache(PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, spatial_attention_timestep_skip_range=(0, 1000),
            cross_attention_block_skip_range=2, cross_attention_timestep_skip_range=(0, 1000),
            current_timestep_callback=lambda: now,
        ))
    found = []
    for now in STEPS:
        made = {}
        for name, states in prompts.items():
            with model.cache_context(name), torch.no_grad():
                made[name] = model(
                    hidden_states=latents, timestep=torch.tensor([now]),
                    encoder_hidden_states=states, return_dict=False,
                )[0]
        change = made["cond"] - made["uncond"]
        found.append(round(float(change.norm() / made["uncond"].norm()), 3))
    return found


plain, cached = differences(False), differences(True)
print(f"diffusers {diffusers.__version__}, torch {torch.__version__}")
print(f"positive less negative prediction, relative, in steps {STEPS}")
print(f"without a cache: {plain}")
print(f"with it: {cached}")
assert min(plain) > 0.05, "the two prompts are to differ"
assert cached == [0.0, 0.0, 0.0], "the behaviour has changed"
PY
