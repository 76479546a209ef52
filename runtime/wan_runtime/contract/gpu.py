"""A type of GPU, as plans know it: the operator has a catalogue of them, and names the one of a
service's workers to its gateways. Pydantic only: no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wan_runtime.contract.base import Contract


class Gpu(Contract):
    """One type of GPU."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$")]
    """As shown, and as the Helm value `gpuType` names it."""
    products: tuple[str, ...] = ()
    """Values of the node label nvidia.com/gpu.product, of whole GPUs that nobody else uses."""
    memory_gib: Annotated[float, Field(ge=1, le=1e5)]
    """Memory that a process can allocate, in GiB."""
    bf16_tflops: Annotated[float, Field(ge=1, le=1e6)]
    """Dense."""
    fp8_tflops: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Dense; 0 without FP8."""
    bandwidth_gbs: Annotated[float, Field(ge=1, le=1e6)]
    """Memory bandwidth, in GB/s."""
    price_per_hour: Annotated[float, Field(ge=0, le=1e6)]
    """Price of one GPU per hour."""

    def __str__(self) -> str:
        return self.name
