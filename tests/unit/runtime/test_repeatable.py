"""Kernels whose gradients repeat to the bit are taken where they must, and nowhere else."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from wan_runtime.models.dit import gradients, repeatable

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this were an H100 with FlashAttention-3."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    found = importlib.util.find_spec

    def there(name: str, package: str | None = None) -> object:
        return object() if name == "fa3_fwd_interface" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", there)
    yield
    torch.use_deterministic_algorithms(False)


def test_the_fastest_pair_is_the_default() -> None:
    assert gradients.choose(GPU) is gradients.FLASH_3


@pytest.mark.parametrize("there", [True, False])
def test_deterministic_takes_repeatable_gradients(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeatable, "cudnn_works", lambda _device: there)
    torch.use_deterministic_algorithms(True)
    found = gradients.choose(GPU)
    assert found.forward is gradients.FLASH_3.forward
    assert found.backward is (repeatable.cudnn_backward if there else repeatable.flash_backward)
    own = gradients.choose(GPU, own=True)
    assert own.forward is gradients.CUDNN.forward
    assert own.backward is repeatable.flash_backward, "PyTorch's own alone"
