"""Where the training of a tiny transformer starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.models.tiny_weights import draw


def dit_state(model: nn.Module, seed: str, config: dict[str, Any]) -> dict[str, Tensor]:
    """A transformer that starts near v = x_t - y and can learn from there.

    Tokens carry the patch of the noisy latents in their first half and the patch of the
    conditioning latents in the second; the head reads their difference. In the first frame, where y
    is the clean latent, that is the velocity up to the factor sigma; elsewhere y is the encoded
    grey. Attention and MLP start as small seeded perturbations behind open gates, so gradients
    reach every layer.
    """
    state = model.state_dict()
    dim, channels = int(config["dim"]), int(config["out_dim"])
    for name, tensor in state.items():
        if name.endswith("bias"):
            state[name] = torch.zeros_like(tensor)
        elif "norm" in name or name.startswith(("img_emb.proj.0", "img_emb.proj.4")):
            state[name] = torch.ones_like(tensor)
        elif name.endswith("modulation"):
            state[name] = draw(seed, name, tensor.shape, 0.05)
        elif name.endswith((".o.weight", "ffn.2.weight")):
            state[name] = draw(seed, name, tensor.shape, 0.3 / tensor.shape[1] ** 0.5)
        elif name.startswith(("patch_embedding", "head.head", "time_projection")):
            state[name] = draw(seed, name, tensor.shape, 0.02)
        else:
            state[name] = draw(seed, name, tensor.shape, tensor[0].numel() ** -0.5)
        if name.endswith("modulation") and tensor.shape[1] == 6:
            # shift, scale, gate of attention; shift, scale, gate of the MLP.
            state[name][:, 2] += 1.0
            state[name][:, 5] += 1.0
    patch, head = state["patch_embedding.weight"], state["head.head.weight"]
    conditioning = patch.shape[1] - channels
    for row in range(2):
        for column in range(2):
            for channel in range(channels):
                slot = (
                    row * 2 + column
                ) * channels + channel  # the order in which unpatchify reads the head
                patch[slot, channel, 0, row, column] += 1.0
                patch[dim // 2 + slot, conditioning + channel, 0, row, column] += 1.0
                head[slot, slot] += 1.0
                head[slot, dim // 2 + slot] -= 1.0
    return state
