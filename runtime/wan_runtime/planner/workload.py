"""What is to be planned: a training run or a clip, on one type of GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from wan_runtime.contract.sampling import Profile
from wan_runtime.contract.training import Checkpointing, Parallelism
from wan_runtime.planner.architecture import Architecture, architecture_of, tokens_of

GIB = 2.0**30
ALONE = Parallelism()
Confidence = Literal["Measured", "Extrapolated", "Estimated"]
Terms = dict[str, float]
"""What a total is made of, by name; in GiB or seconds."""


DEFAULT_TARGETS = ("q", "k", "v", "o", "ffn.0", "ffn.2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A model and the clips it works on. Raises ValueError with the field for what Wan cannot
    hold."""

    preset: str
    frames: int
    width: int
    height: int

    def __post_init__(self) -> None:
        tokens_of(self.frames, self.width, self.height)

    @property
    def tokens(self) -> int:
        return tokens_of(self.frames, self.width, self.height)

    @property
    def architecture(self) -> Architecture:
        return architecture_of(self.preset)


@dataclass(frozen=True, kw_only=True, slots=True)
class Training(Clip):
    """One train step of a run: one expert, or both."""

    method: Literal["lora", "full"] = "lora"
    rank: int = 32
    targets: tuple[str, ...] = DEFAULT_TARGETS
    batch: int = 1
    accumulation: int = 1
    checkpointing: Checkpointing = "Full"
    precision: Literal["BF16", "FP8"] = "BF16"
    """Precision of the frozen weights."""
    deterministic: bool = False
    """Only kernels that repeat to the bit."""
    ema: bool = False
    """Also keeps the mean of an adapter's weights."""
    spread: Parallelism = ALONE
    """GPUs that train together."""
    experts: int = 1
    """Transformers that are trained by turns in one process, each step one of them."""

    @property
    def gpus(self) -> int:
        """GPUs that train together."""
        return self.spread.world

    @property
    def clips_a_rank(self) -> float:
        """Clips of an optimizer step that one group of ranks takes."""
        return self.batch * self.accumulation / self.spread.data

    @property
    def micro_batch(self) -> int:
        """Clips that go through the transformer together: no part of a batch is of two ranks."""
        return math.gcd(self.batch, max(1, round(self.clips_a_rank)))

    @property
    def trainable(self) -> int:
        if self.method == "full":
            return self.architecture.parameters
        return self.architecture.lora_parameters(self.rank, self.targets)

    @property
    def bytes_a_weight(self) -> float:
        """Bytes of a weight of the transformer as it is loaded: float32 where it trains."""
        return 4.0 if self.method == "full" else 2.0

    @property
    def checkpoint_bytes(self) -> float:
        """Weights that train, AdamW's two moments and the mean, in float32."""
        return (16.0 if self.ema else 12.0) * self.trainable


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving(Clip):
    """One clip, rendered."""

    steps: int
    computed: int | None = None
    """Number of steps that the transformer computes; None: all."""
    guided: bool = True
    """Classifier-free guidance: two forward passes a step."""
    gpus: int = 1
    profile: Profile = "Lossless"
