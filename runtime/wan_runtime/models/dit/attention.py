"""Attention of the transformer: which kernel computes it, over which tokens.

diffsynth picks FA3, FA2, SageAttention or SDPA by what can be imported. SageAttention has no
backward: its output carries no gradient and nothing says so (thu-ml/SageAttention#90), which
silently cuts q, k and v out of training. Serving tries it out for profiles that may lose bits.
"""

from __future__ import annotations

from typing import Literal

from diffsynth.models import wan_video_dit
from torch import Tensor, nn

from wan_runtime.contract.sampling import AttentionKernel
from wan_runtime.models.dit.kernels import Kernel
from wan_runtime.models.dit.tokens import TokenSplit

# Shapes: a batch of B, L tokens of the whole video, l of this rank, D width.

Kernels = Literal["Auto"] | AttentionKernel
"""Auto prefers FlashAttention-3, then -2, where installed; PyTorch's SDPA otherwise. Profiles other
than Exact try out the kernels that there are, or take the one that is named."""


def choose(kernels: Kernels) -> str:
    """Hold diffsynth, in this process, to these kernels; return the name of the one it uses."""
    wan_video_dit.SAGE_ATTN_AVAILABLE = False
    if kernels == "SDPA":
        wan_video_dit.FLASH_ATTN_3_AVAILABLE = False
        wan_video_dit.FLASH_ATTN_2_AVAILABLE = False
    if wan_video_dit.FLASH_ATTN_3_AVAILABLE:
        return "FlashAttention-3"
    return "FlashAttention-2" if wan_video_dit.FLASH_ATTN_2_AVAILABLE else "SDPA"


class SelfAttention(nn.Module):
    """Attention among all tokens of a video, in place of diffsynth's, for all blocks of a
    transformer, whether this rank has them all or ranks split them."""

    tokens: TokenSplit | None
    """How the pass at work splits its tokens; None where this rank has them all."""

    kernel: Kernel
    """What computes it; diffsynth's unless set."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.kernel = heads, None, diffsynths

    def forward(self, q_BlD: Tensor, k_BlD: Tensor, v_BlD: Tensor) -> Tensor:
        """Attention of this rank's tokens, [B, l, D]. Collective, where tokens are split."""
        if self.tokens is None:
            return self.kernel(q_BlD, k_BlD, v_BlD, self.heads)
        return self.tokens.attend((q_BlD, k_BlD, v_BlD), self.heads, self.kernel)


def diffsynths(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """Attention by the kernel of `choose`, [B, L, D]."""
    made: Tensor = wan_video_dit.flash_attention(q_BLD, k_BLD, v_BLD, num_heads=heads)
    return made
