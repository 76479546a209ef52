"""The method of a training and how it runs, as a job file says it."""

from __future__ import annotations

from typing import Literal, get_args

from wan_runtime.contract.base import Contract

Keeping = Literal["KeepAttention", "Offload"]
"""Policies under which no attention is computed twice."""
KEEPING: tuple[Keeping, ...] = get_args(Keeping)
Checkpointing = Literal["None", "Full", Keeping]
"""What is kept between forward and backward: all; each block's input; that and the result of its
self-attention, on the GPU as far as it fits; or both in pinned host memory."""


class LoraSpec(Contract):
    rank: int = 32
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q", "k", "v", "o", "ffn.0", "ffn.2")
    learning_rate: float = 1e-4
    init_from: str | None = None
    """s3:// address of an artifact or a safetensors file that this expert's training starts
    from."""


class FullSpec(Contract):
    """All weights of the transformer."""

    learning_rate: float = 1e-5
    init_from: str | None = None
    """As for LoraSpec; an adapter is merged into the base weights."""


class OptimizerSpec(Contract):
    """AdamW."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01


class TrainingSpec(Contract):
    steps: int | None = None
    """Optimizer steps. None: derived from epochs, the repeat and the number of training clips."""
    epochs: int = 2
    dataset_repeat: int = 10
    batch_size: int = 1
    gradient_accumulation: int = 1
    caption_dropout: float = 0.0
    """Share of clips that are seen with the empty caption."""
    ema_decay: float | None = None
    """Decay of the mean of the weights over steps, which is then what is probed and committed."""
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: Literal["Constant", "Cosine"] = "Constant"
    warmup_steps: int = 0
    max_gradient_norm: float = 1.0
    seed: int = 0
    deterministic: bool = False
    """Only kernels that repeat to the bit. On a GPU CUBLAS_WORKSPACE_CONFIG must be :4096:8."""
    loss_weighting: Literal["Uniform", "Bell"] = "Uniform"
    """Over noise levels, within an expert. Bell is DiffSynth's."""
    gradient_checkpointing: Checkpointing = "Full"
    tiled_vae: bool = False
    attention: Literal["Auto", "SDPA"] = "Auto"
    checkpoint_every: int = 100
    """Optimizer steps between checkpoints."""
    keep_checkpoints: int = 2
    weights: Literal["Last", "Best"] = "Last"
    """Which are committed: the last step's, or those of the lowest mean probe loss."""
    preview_every: int | None = None
    """Optimizer steps between previews of a held-out clip; None makes none."""
    probe_every: int = 50
    """Optimizer steps between evaluations of the fixed held-out probes; step 0 and the last always
    count."""
