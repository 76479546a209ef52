"""Transformers whose blocks come from host memory as they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffusers_peer import SIGMA, random_inputs
from forked_ranks import on_ranks
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.dit.streamed import Streamed
from wan_runtime.models.dit.tokens import TokenSplit, split_over
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import compute_device
from wan_runtime.planner.placement import ROOM, Placement, placement
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.model import placement_of

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")


@pytest.fixture
def streamed(tiny21: ModelFiles) -> Transformer:
    return loaded(tiny21, streamed=True)


def loaded(files: ModelFiles, *, streamed: bool) -> Transformer:
    return Transformer.load(
        files, Expert.ONLY, CPU, torch.float32, profile="Lossless", streamed=streamed
    )


@torch.no_grad()
def velocity(transformer: Transformer, tokens: TokenSplit | None = None) -> Tensor:
    noisy, conditions = random_inputs(clip=True)
    transformer.bring()
    return transformer.begin(conditions, tokens=tokens).velocity(noisy, SIGMA)


def changes(transformer: Transformer) -> Changes:
    """A product beside one layer, and a difference of another's weights."""
    draw = torch.Generator().manual_seed(0)
    name = "blocks.1.self_attn.k.weight"
    outs, ins = transformer.shapes[name]
    b, a = torch.randn(outs, 4, generator=draw), torch.randn(4, ins, generator=draw)
    grown = torch.randn(transformer.shapes[name], generator=draw)
    return Changes("drawn", {"blocks.0.cross_attn.k": (b, a)}, {name: grown})


def test_streamed_blocks_compute_the_same_bits(tiny21: ModelFiles, streamed: Transformer) -> None:
    resident = loaded(tiny21, streamed=False)
    base = velocity(resident)
    for _ in range(2):
        assert torch.equal(velocity(streamed), base)
        streamed.leave()
    use = [(changes(resident), 0.5)]
    with resident.adapted(use), streamed.adapted(use):
        wanted = velocity(resident)
        assert not torch.equal(wanted, base)
        assert torch.equal(velocity(streamed), wanted)
    assert torch.equal(velocity(streamed), base)


def test_ranks_that_share_the_tokens_compute_the_same_bits(
    tiny21: ModelFiles, tmp_path: Path
) -> None:
    def both(ranks: Ranks) -> bool:
        tokens = split_over(ranks.everyone)
        made = (velocity(loaded(tiny21, streamed=each), tokens) for each in (False, True))
        return torch.equal(*made)

    assert on_ranks(2, tmp_path, both) == [True, True]


def test_two_blocks_are_there_and_the_next_one_is_on_its_way(streamed: Transformer) -> None:
    module, places = streamed._module, streamed._offloaded
    assert isinstance(places, Streamed)
    homes = [block.self_attn.q.weight.data_ptr() for block in module.blocks]
    count = len(homes)
    assert count > ROOM
    streamed.bring()
    there, coming = set(), []
    for number, block in enumerate(places.blocks()):
        there.add(block.self_attn.q.weight.data_ptr())
        coming.append(list(places._holds))
        assert places._holds[number % ROOM] == number
        others = [each.self_attn.q.weight.data_ptr() for each in module.blocks]
        assert [other != home for other, home in zip(others, homes, strict=True)] == [
            other == number for other in range(count)
        ], "only the one at work is on the device"
    assert coming[1] == [2, 1], "the next but one comes as soon as its room is free"
    assert len(there) == ROOM
    assert sorted(places._holds) == [0, 1], "the next pass need not wait"


def test_a_pass_that_broke_off_spoils_none_after_it(
    tiny21: ModelFiles, streamed: Transformer
) -> None:
    places = streamed._offloaded
    assert isinstance(places, Streamed)
    streamed.bring()
    broken = places.blocks()
    next(broken)
    next(broken)
    broken.close()
    assert torch.equal(velocity(streamed), velocity(loaded(tiny21, streamed=False)))


def test_an_error_in_a_block_leaves_none_on_the_device(streamed: Transformer) -> None:
    blocks = streamed._module.blocks
    homes = [block.self_attn.q.weight.data_ptr() for block in blocks]
    with pytest.raises(RuntimeError, match="no memory") as caught:
        fail_in(streamed, number=1)
    assert caught.tb, "what failed is still known, and with it what was at work"
    assert [block.self_attn.q.weight.data_ptr() for block in blocks] == homes


def fail_in(transformer: Transformer, number: int) -> None:
    """A pass that fails in a block."""

    def refuse(*_: object) -> None:
        raise RuntimeError("no memory")

    last = transformer._module.blocks[number].cross_attn.norm_k
    hook = last.register_forward_pre_hook(refuse)
    try:
        velocity(transformer)
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("sizes", "memory", "exact", "wanted"),
    [
        ([33], 80, False, "Resident"),
        ([33], 24, False, "Streamed"),
        ([33], 48, False, "Streamed"),
        ([33], 24, True, "Resident"),
        ([29, 29], 141, False, "Resident"),
        ([29, 29], 80, False, "Turns"),
        ([29, 29], 48, False, "Streamed"),
        ([29, 29], 80, True, "Turns"),
    ],
)
def test_weights_are_where_there_is_room(
    sizes: list[float], memory: float, exact: bool, wanted: Placement
) -> None:
    assert placement(sizes, memory, exact=exact) == wanted


@pytest.mark.parametrize(
    ("name", "gib", "wanted"),
    [
        ("Wan2.2-I2V-A14B", 139.8, "Resident"),
        ("Wan2.2-I2V-A14B", 79.2, "Turns"),
        ("Wan2.1-I2V-14B-720P", 79.2, "Resident"),
        ("Wan2.1-I2V-14B-720P", 39.4, "Streamed"),
    ],
)
def test_what_is_loaded_counts_not_the_files(
    monkeypatch: pytest.MonkeyPatch, name: str, gib: float, wanted: Placement
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    # As torch has it: this one wants to know which.
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda d: 1.0 + 0 * d.index)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, gib * 2**30))
    assert placement_of(PRESETS[name], compute_device(), "Lossless") == wanted
