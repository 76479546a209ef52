"""Node labels of GPUs, as NVIDIA's GPU feature discovery writes them, and the types they name."""

from __future__ import annotations

import pytest

from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_product, with_own

LABELS = {
    "NVIDIA-A100-SXM4-40GB": "A100-40GB",
    "NVIDIA-A100-PCIE-40GB": "A100-40GB",
    "NVIDIA-A100-SXM4-80GB": "A100-80GB",
    "NVIDIA-A100-80GB-PCIe": "A100-PCIe-80GB",
    "NVIDIA-H100-80GB-HBM3": "H100-80GB",
    "NVIDIA-H100-PCIe": "H100-PCIe-80GB",
    "NVIDIA-H100-NVL": "H100-NVL-94GB",
    "NVIDIA-H200": "H200-141GB",
    "NVIDIA-H200-NVL": "H200-NVL-141GB",
    "NVIDIA-L4": "L4-24GB",
    "NVIDIA-GeForce-RTX-4090": "RTX-4090-24GB",
    "NVIDIA-L40": "L40-48GB",
    "NVIDIA-L40S": "L40S-48GB",
    "NVIDIA-RTX-6000-Ada-Generation": "RTX-6000-Ada-48GB",
    "NVIDIA-B200": "B200-180GB",
    "A100-SXM4-40GB": "A100-40GB",
    "NVIDIA-L40S-SHARED": "L40S-48GB",
    "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb-SHARED": "H100-80GB-MIG-3g.40gb",
    "NVIDIA-A100-SXM4-40GB-MIG-INVALID": None,
    "NVIDIA-T4": None,
    "Tesla-V100-SXM2-16GB": None,
}
SLICES = {
    "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb": (4.75, 1),
    "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb": (19.62, 3),
    "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb": (9.75, 1),
    "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb+me": (9.75, 1),
    "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.me": (9.75, 1),
    "NVIDIA-H100-80GB-HBM3-MIG-1g.20gb": (19.62, 1),
    "NVIDIA-H100-80GB-HBM3-MIG-4g.40gb": (39.5, 4),
    "NVIDIA-H100-80GB-HBM3-MIG-7g.80gb": (79.1, 7),
    "NVIDIA-H200-MIG-2g.35gb": (34.5, 2),
}
"""Label -> GiB as nvidia-smi shows them, sevenths of the compute."""


@pytest.mark.parametrize("label", LABELS)
def test_a_label_names_its_type(label: str) -> None:
    found = by_product(label, DEFAULTS)
    assert (found and found.name) == LABELS[label]


@pytest.mark.parametrize("label", SLICES)
def test_a_slice_has_its_share_of_the_gpu(label: str) -> None:
    memory, sevenths = SLICES[label]
    whole, found = by_product(label.partition("-MIG-")[0], DEFAULTS), by_product(label, DEFAULTS)
    assert whole is not None
    assert found is not None
    assert found.memory_gib == pytest.approx(memory, rel=0.04)
    assert found.bf16_tflops == pytest.approx(whole.bf16_tflops * sevenths / 7)
    assert Gpu.model_validate(found.model_dump()) == found, "its name may stand in a status"


def test_a_catalogue_may_name_a_slice_or_a_share_itself() -> None:
    label = "NVIDIA-L40S-SHARED"
    own = DEFAULTS[0].model_copy(update={"name": "half", "products": (label,)})
    found = by_product(label, with_own([own]))
    assert found is not None
    assert found.name == "half"
