"""The method of a training and how it runs, as a job file says it."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, PositiveInt, model_validator

from wan_runtime.contract.base import Contract

Keeping = Literal["KeepAttention", "Offload"]
"""Policies under which no attention is computed twice."""
KEEPING: tuple[Keeping, ...] = get_args(Keeping)
Checkpointing = Literal["None", "Full", Keeping]
"""What is kept between forward and backward: all; each block's input; that and the result of its
self-attention, on the GPU as far as it fits; or both in pinned host memory."""


Stage = Literal[0, 2, 3]
Offload = Literal["None", "Optimizer", "OptimizerAndParameters"]


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


class Parallelism(Contract):
    """Processes that train together, one for each GPU: by default, one alone.

    Ranks are numbered so that those that share a clip are neighbours: `rank // sequence` is the
    place among the clips, `rank % sequence` the place within the clip.
    """

    nodes: PositiveInt = 1
    gpus_per_node: PositiveInt = 1
    sequence: PositiveInt = 1
    """Ranks that split the tokens of one clip. Divides their number and the model's heads."""
    zero_stage: Stage = 0
    """Stage of DeepSpeed's ZeRO, by what is sharded over the ranks: optimizer states and gradients,
    or weights too. 0: nothing, without DeepSpeed."""
    offload: Offload = "None"
    """What ZeRO keeps in host memory."""

    @property
    def world(self) -> int:
        """Number of all ranks."""
        return self.nodes * self.gpus_per_node

    @property
    def data(self) -> int:
        """Number of groups of ranks that each take clips of their own."""
        return self.world // self.sequence

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.world % self.sequence:
            raise ValueError(
                f"sequence is {self.sequence}, which does not divide the {self.world} ranks"
            )
        return self


def _is_alone(parallelism: Parallelism) -> bool:
    # Job files of runs that began before this field stay as they are.
    return parallelism == Parallelism()


class TrainingSpec(Contract):
    steps: int | None = None
    """Optimizer steps. None: derived from epochs, the repeat and the number of training clips."""
    epochs: int = 2
    dataset_repeat: int = 10
    batch_size: int = 1
    gradient_accumulation: int = 1
    parallelism: Annotated[Parallelism, Field(exclude_if=_is_alone)] = Parallelism()
    """Ranks over which the `batch_size * gradient_accumulation` clips of an optimizer step are
    spread. Their number changes no result but for rounding."""
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
    base_precision: Literal["BF16", "FP8"] = "BF16"
    """Precision of frozen weights beside a LoRA: FP8 keeps the linear layers of all blocks but the
    outer ones in E4M3."""
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

    @model_validator(mode="after")
    def _spreads(self) -> Self:
        clips, data = self.batch_size * self.gradient_accumulation, self.parallelism.data
        if clips % data:
            raise ValueError(
                f"a step has {clips} clips, which cannot be spread evenly over {data} ranks"
            )
        return self

    def parts(self, groups: int) -> tuple[int, int]:
        """Number of clips that go through the transformer together, and of times that each of so
        many groups of ranks has some do so in an optimizer step."""
        own = self.batch_size * self.gradient_accumulation // groups
        # Of a batch and of a group's share alike: so no part belongs to two of either.
        size = math.gcd(self.batch_size, own)
        return size, own // size
