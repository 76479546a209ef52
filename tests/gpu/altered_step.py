"""The child of a supervisor on a GPU: the real step, under one altered condition.

WAN_GPU_TEST_DOES names one of the functions below.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from diffsynth.models import wan_video_dit

from wan_runtime.process import child, step


def little_memory() -> None:
    """PyTorch's own allocator refuses beyond 64 MiB, with the error of a full GPU."""
    free = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((64 << 20) / free)


def too_large() -> None:
    """The transformer's output asks for four times what the GPU has."""
    real = wan_video_dit.flash_attention

    def hungry(*arguments: Any, **options: Any) -> torch.Tensor:
        total = torch.cuda.mem_get_info()[1]
        torch.empty(4 * total, dtype=torch.uint8, device="cuda")
        made: torch.Tensor = real(*arguments, **options)
        return made

    wan_video_dit.flash_attention = hungry


def no_backward() -> None:
    """Attention as SageAttention has it: right numbers, no gradient, no error."""
    real = wan_video_dit.flash_attention
    wan_video_dit.flash_attention = lambda *a, **k: real(*a, **k).detach()


if __name__ == "__main__":
    globals()[os.environ["WAN_GPU_TEST_DOES"]]()
    child.enter(step.main)
