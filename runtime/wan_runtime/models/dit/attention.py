"""Which attention kernel training may use.

diffsynth picks FA3, FA2, SageAttention or SDPA by what can be imported. SageAttention has no
backward: its output carries no gradient and nothing says so (thu-ml/SageAttention#90), which
silently cuts q, k and v out of training.
"""

from __future__ import annotations

from typing import Literal

from diffsynth.models import wan_video_dit


def use_trainable(choice: Literal["Auto", "SDPA"]) -> str:
    """Restrict diffsynth, in this process, to kernels with a backward; return the one it will use.

    Auto prefers FlashAttention-3, then -2, where installed; PyTorch's SDPA otherwise.
    """
    wan_video_dit.SAGE_ATTN_AVAILABLE = False
    if choice == "SDPA":
        wan_video_dit.FLASH_ATTN_3_AVAILABLE = False
        wan_video_dit.FLASH_ATTN_2_AVAILABLE = False
    if wan_video_dit.FLASH_ATTN_3_AVAILABLE:
        return "FlashAttention-3"
    return "FlashAttention-2" if wan_video_dit.FLASH_ATTN_2_AVAILABLE else "SDPA"
