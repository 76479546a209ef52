"""Modules that take turns on a GPU. Here the device is the host: copies of weights show as such by
where they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wan_runtime.models import offload
from wan_runtime.models.offload import Offloaded

DEVICE = torch.device("cpu")


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2).to(torch.bfloat16))
    return made.eval().requires_grad_(False)


def addresses(module: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())]


def test_copies_work_and_the_weights_stay(module: nn.Module) -> None:
    before = copy.deepcopy(module.state_dict())
    offloaded = Offloaded(module, DEVICE)
    home = addresses(module)
    for _ in range(2):
        with offloaded:
            assert not set(addresses(module)) & set(home)
            for name, tensor in module.state_dict().items():
                assert torch.equal(tensor, before[name])
            module[0].weight.data.fill_(7)  # lost: nothing is copied back
        assert addresses(module) == home
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_memory_is_unlocked_when_nothing_holds_it(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA refuses memory that overlaps with what was locked, freed and taken again."""
    locked: list[int] = []
    unlocked: list[int] = []
    monkeypatch.setattr(offload, "_lock", lambda block, _: locked.append(block.data_ptr()) or True)
    monkeypatch.setattr(offload, "_unlock", lambda block: unlocked.append(block.data_ptr()))
    offloaded = Offloaded(module, torch.device("cuda"))
    assert locked
    assert not unlocked
    del offloaded
    assert unlocked == locked


def test_what_is_there_is_not_brought_again(module: nn.Module) -> None:
    offloaded = Offloaded(module, DEVICE)
    offloaded.bring()
    there = addresses(module)
    offloaded.bring()
    assert addresses(module) == there


def test_one_block_holds_all_of_it_to_the_bit(module: nn.Module) -> None:
    before = copy.deepcopy(module.state_dict())
    tensors = [*module.parameters(), *module.buffers()]
    block = offload._gather(tensors)
    start, end = block.data_ptr(), block.data_ptr() + block.nbytes
    for tensor in tensors:
        assert start <= tensor.data_ptr() <= tensor.data_ptr() + tensor.nbytes <= end
        assert (tensor.data_ptr() - start) % offload.ALIGNMENT == 0
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype is before[name].dtype
