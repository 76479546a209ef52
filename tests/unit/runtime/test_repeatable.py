"""Kernels whose gradients repeat to the bit are taken where they must, and nowhere else."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from wan_runtime.models.dit import gradients, repeatable
from wan_runtime.planner.workspace import MOST, heads_at_once, workspace_bytes

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
    room = workspace_bytes(1, 40, 75_600, 75_600) if there else 0
    x = torch.empty(1, 75_600, 5120, device="meta")
    assert gradients.SplitAttention(found, 40, None).workspace(x) == room
    own = gradients.choose(GPU, own=True)
    assert own.forward is gradients.CUDNN.forward
    assert own.backward is repeatable.flash_backward, "PyTorch's own alone"


@pytest.mark.parametrize("few", [1, 2, 4])
def test_a_few_heads_at_a_time_give_the_gradients_of_all(few: int) -> None:
    draw = torch.Generator().manual_seed(0)
    q, gradient = (torch.randn(2, 24, 32, generator=draw) for _ in range(2))
    k, v = (torch.randn(2, 40, 32, generator=draw) for _ in range(2))
    found, sums = gradients.CPU.forward(q, k, v, 4)
    wanted = gradients.CPU.backward(gradient, q, k, v, found, sums, 4)
    calls = []

    def differentiate(given: Sequence[Tensor], sums: Tensor) -> Sequence[Tensor]:
        assert all(each.is_contiguous() for each in (*given, sums)), "as the graph is laid out"
        calls.append(sums.shape[1])
        *these, gradient = given
        return gradients.CPU.backward(gradient, *these, sums, sums.shape[1])

    made = repeatable._in_turn(differentiate, (q, k, v, found, gradient), sums, 4, few)
    assert calls == [few] * (4 // few)
    for each, exact in zip(made, wanted, strict=True):
        torch.testing.assert_close(each, exact)


@pytest.mark.parametrize(
    ("tokens", "keys", "few"),
    [(75_600, 75_600, 1), (43_200, 43_200, 2), (25_200, 25_200, 10), (75_600, 512, 40)],
)
def test_heads_at_once_have_room_by_their_sizes_alone(tokens: int, keys: int, few: int) -> None:
    assert heads_at_once(1, 40, tokens, keys) == few
    assert workspace_bytes(1, 40, tokens, keys) == 2 * few * tokens * keys <= MOST
    assert heads_at_once(1, 5, tokens, keys) <= 5, "a rank's share"
    assert heads_at_once(1, 40, 200_000, 200_000) == 1, "more than is allowed, but one"
