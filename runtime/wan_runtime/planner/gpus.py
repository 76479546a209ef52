"""The GPU catalogue: what a plan knows of a type of GPU.

Rates, bandwidth and memory are the vendor's; only the H100's memory is measured. Prices are
examples, in whatever currency yours are in: set your own with the Helm value `gpuCatalogue`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from wan_runtime.contract.gpu import Gpu
from wan_runtime.faults import described

__all__ = [
    "DEFAULTS",
    "HOPPER",
    "MEASURED_ON",
    "Gpu",
    "by_device",
    "by_name",
    "by_product",
    "catalogue_of",
    "is_hopper",
    "measured_gpu",
    "parse_catalogue",
    "with_own",
]


def _gpu(
    name: str, memory: float, bf16: float, fp8: float, bandwidth: float, price: float, *labels: str
) -> Gpu:
    return Gpu(
        name=name,
        products=tuple(f"NVIDIA-{label}" for label in labels),
        memory_gib=memory,
        bf16_tflops=bf16,
        fp8_tflops=fp8,
        bandwidth_gbs=bandwidth,
        price_per_hour=price,
    )


MEASURED_ON = "H100-80GB"
"""Type that most rows were taken on."""
HOPPER = ("H100", "H200")
"""In names and products: GPUs whose attention can compute in 8 bits."""

DEFAULTS: tuple[Gpu, ...] = (
    _gpu("A100-40GB", 39.4, 312, 0, 1555, 1.30, "A100-SXM4-40GB", "A100-PCIE-40GB"),
    _gpu("A100-80GB", 79.1, 312, 0, 2039, 1.80, "A100-SXM4-80GB"),
    _gpu("A100-PCIe-80GB", 79.1, 312, 0, 1935, 1.60, "A100-80GB-PCIe"),
    _gpu(MEASURED_ON, 79.18, 989, 1979, 3350, 3.00, "H100-80GB-HBM3"),
    _gpu("H100-PCIe-80GB", 79.1, 756, 1513, 2000, 2.40, "H100-PCIe"),
    _gpu("H100-NVL-94GB", 93.1, 835, 1671, 3900, 2.80, "H100-NVL"),
    _gpu("H200-141GB", 139.8, 989, 1979, 4800, 3.80, "H200"),
    _gpu("H200-NVL-141GB", 139.8, 835, 1671, 4800, 3.40, "H200-NVL"),
    _gpu("L4-24GB", 22.0, 121, 242, 300, 0.60, "L4"),
    _gpu("RTX-4090-24GB", 23.5, 165, 330, 1008, 0.50, "GeForce-RTX-4090"),
    _gpu("L40-48GB", 44.4, 181, 362, 864, 0.90, "L40"),
    _gpu("L40S-48GB", 44.4, 362, 733, 864, 1.00, "L40S"),
    _gpu("RTX-6000-Ada-48GB", 47.4, 364, 728, 960, 0.90, "RTX-6000-Ada-Generation"),
    _gpu(
        "RTX-PRO-6000-96GB", 94.9, 503, 1007, 1792, 1.70,
        "RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000-Blackwell-Workstation-Edition",
    ),
    _gpu("B200-180GB", 178.3, 2250, 4500, 8000, 5.50, "B200"),
)  # fmt: skip


class _Entries(BaseModel):
    model_config = ConfigDict(frozen=True)
    entries: tuple[Gpu, ...]

    @model_validator(mode="after")
    def _once(self) -> _Entries:
        for what, values in (
            ("name", [gpu.name for gpu in self.entries]),
            ("product", [label for gpu in self.entries for label in gpu.products]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} {', '.join(twice)} stands twice")
        return self


_LIST = TypeAdapter(tuple[Gpu, ...])


def parse_catalogue(text: str) -> tuple[Gpu, ...]:
    """As `catalogue_of`, of a JSON list."""
    try:
        return with_own(_LIST.validate_json(text))
    except ValidationError as error:
        raise ValueError(described(error, "gpuCatalogue")) from error


def catalogue_of(entries: object) -> tuple[Gpu, ...]:
    """The defaults with the entries of a list in their place, by name, or added.

    Raises ValueError that names the entry, the field and what would be right.
    """
    try:
        return with_own(_LIST.validate_python(entries))
    except ValidationError as error:
        raise ValueError(described(error, "gpuCatalogue")) from error


def with_own(own: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """The defaults, with `own` replacing those of the same name or product. Raises
    ValidationError.
    """
    ours = _Entries(entries=tuple(own)).entries
    names = {gpu.name for gpu in ours}
    labels = {label for gpu in ours for label in gpu.products}
    kept = (gpu for gpu in DEFAULTS if gpu.name not in names and not labels & set(gpu.products))
    return (*kept, *ours)


def is_hopper(gpu: Gpu) -> bool:
    return any(chip in text for chip in HOPPER for text in (gpu.name, *gpu.products))


def by_name(name: str, catalogue: Sequence[Gpu]) -> Gpu | None:
    return next((gpu for gpu in catalogue if gpu.name == name), None)


def measured_gpu() -> Gpu:
    """The type that the planner's terms are of, for what runs on an unknown one."""
    found = by_name(MEASURED_ON, DEFAULTS)
    assert found is not None
    return found


def by_product(label: str, catalogue: Sequence[Gpu]) -> Gpu | None:
    """The type whose nodes carry `label` as nvidia.com/gpu.product; of a MIG label, a slice of it.

    A GPU that is shared in time (`-SHARED`) counts as a whole one: what does not fit that fits no
    share of it either.
    """
    parts = _LABEL.fullmatch(label)
    assert parts is not None, "any text is a product"
    # A catalogue may name the slice or the share itself. Drivers before 470 left out the vendor.
    for product in (label, parts["product"], f"NVIDIA-{parts['product']}"):
        whole = next((gpu for gpu in catalogue if product in gpu.products), None)
        if whole is not None:
            sliced = parts["compute"] is not None and product != label
            return _slice(whole, parts) if sliced else whole
    return None


def by_device(name: str) -> Gpu | None:
    """The type, of the defaults, of a GPU as torch and nvidia-smi name it."""
    return by_product(name.replace(" ", "-"), DEFAULTS)


_LABEL = re.compile(
    r"(?P<product>.*?)(-MIG-(?P<compute>\d+)g\.(?P<memory>\d+)gb([.+][a-z.]+)?)?(-SHARED)?"
)
"""As NVIDIA's GPU feature discovery makes it: the model, `MIG` and the profile of a slice (such as
`3g.40gb` or `1g.10gb+me`), `SHARED` where time slicing gives a GPU to several pods."""


def _slice(whole: Gpu, parts: re.Match[str]) -> Gpu:
    """Sevenths of the compute, and as many eighths of the memory as the profile's rounded size
    says."""
    compute = min(1.0, int(parts["compute"]) / 7)
    memory = min(1.0, max(1, round(8 * int(parts["memory"]) / whole.memory_gib)) / 8)
    return whole.model_copy(
        update={
            "name": f"{whole.name}-MIG-{parts['compute']}g.{parts['memory']}gb",
            "products": (),
            "memory_gib": whole.memory_gib * memory,
            "bf16_tflops": whole.bf16_tflops * compute,
            "fp8_tflops": whole.fp8_tflops * compute,
            "bandwidth_gbs": whole.bandwidth_gbs * memory,
            "price_per_hour": whole.price_per_hour * memory,
        }
    )
