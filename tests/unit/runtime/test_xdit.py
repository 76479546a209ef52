"""Kernels of rings, and what xDiT's libraries cannot do; what ranks make by them is in
test_layouts.py."""

from __future__ import annotations

import pytest
import torch

from wan_runtime.errors import InputError
from wan_runtime.models.dit import xdit
from wan_runtime.models.dit.kernels import WITH_SUMS, sdpa


def test_kernels_of_a_ring_give_their_sums() -> None:
    q, k, v = torch.randn(3, 1, 5, 8, generator=torch.Generator().manual_seed(0))
    found, sums = WITH_SUMS[sdpa](q, k, v, 2)
    heads = [each.view(1, 5, 2, 4).transpose(1, 2) for each in (q, k)]
    wanted = (heads[0] @ heads[1].transpose(2, 3) / 2).logsumexp(-1)
    torch.testing.assert_close(sums, wanted)
    torch.testing.assert_close(found, sdpa(q, k, v, 2))


def test_a_ring_that_does_not_divide_the_halves_is_refused() -> None:
    with pytest.raises(InputError, match=r"parallelism\.ring: 2 does not divide the 1 GPUs"):
        xdit.join(0, 2, 2)


def test_an_image_without_the_libraries_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdit, "YUNCHANG", "no_such_package")
    with pytest.raises(InputError, match="xDiT needs the package no_such_package, which the CUDA"):
        xdit.join(0, 2, 1)
