"""Ranks that compute one video or one training step: who does which part, and how they meet.

Of a video with guidance, the two forward passes of a step go to one half of the ranks each; the
ranks of a half split the tokens. Without guidance all ranks split the tokens. Both kinds of groups
exist from the start, because the two experts of a request may differ in this.

Of a training step, groups of neighbours take clips of their own, and split the tokens of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import ONE, ParallelSpec, layout_of
from wan_runtime.errors import StepError, classify, rebuilt
from wan_runtime.models.dit import xdit
from wan_runtime.models.dit.kernels import Kernel

log = logging.getLogger(__name__)

T = TypeVar("T")
Fault = tuple[ExitClass, Reason, str]
"""A StepError, as it travels."""

TIMEOUT = timedelta(days=2)
"""Longest wait in a collective: a rank may fetch for long. What started them ends a stuck rank far
sooner."""


class Exchange(Protocol):
    """A library's attention among the tokens of a group's ranks."""

    ring: int
    """Number of parts of the keys that go round; 1: each rank has all keys of its heads."""

    def attend(
        self, tokens: Sequence[Tensor], heads: int, lengths: Sequence[int], kernel: Kernel
    ) -> Tensor:
        """Attention of this rank's tokens, [1, l, D]. Collective.

        Args:
            tokens: queries, keys and values [1, l, D].
            lengths: number of tokens of each rank.
        """


@dataclass(frozen=True, slots=True)
class Group:
    """Ranks that work together, in order. One rank alone never communicates."""

    ranks: tuple[int, ...]
    index: int
    """Place of this rank within it."""
    handle: Any = None
    exchange: Exchange | None = None
    """None: that of `TokenSplit`."""

    @property
    def size(self) -> int:
        return len(self.ranks)

    @property
    def shares(self) -> int:
        """Number of shares that they divide the attention heads into."""
        return self.size // (1 if self.exchange is None else self.exchange.ring)


@dataclass(frozen=True, slots=True)
class World:
    """This rank's place among all."""

    rank: int
    world: int
    everyone: Group

    def together(self, action: Callable[[], T]) -> T:
        """Do something on each rank that may fail on one. Collective.

        Raises:
            StepError: on all ranks, if it failed on any: none is left waiting for another.
        """
        made, mine = None, None
        try:
            made = action()
        except Exception as error:
            log.warning("%s", error, exc_info=not isinstance(error, StepError))
            found = classify(error)
            mine = (found.exit_class, found.reason, found.message)
        faults: list[Fault | None] = [mine]
        if self.world > 1:
            faults *= self.world
            dist.all_gather_object(faults, mine)
        for fault in filter(None, faults):
            raise rebuilt(*fault)
        return cast(T, made)

    def broadcast(self, value: Any) -> Any:
        """A small object of rank 0, on all ranks. Collective."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def decided(self, choose: Callable[[], T]) -> T:
        """Rank 0's choice, a small object, on all ranks. Collective.

        Raises:
            StepError: on all ranks, if rank 0 cannot choose.
        """
        if self.world == 1:
            return choose()
        mine = self.together(lambda: choose() if self.rank == 0 else None)
        return cast(T, self.broadcast(mine))

    def broadcast_tensor(self, tensor: Tensor | None, device: torch.device) -> Tensor:
        """A tensor of rank 0, on all ranks. Collective."""
        meta = self.broadcast(None if tensor is None else (tensor.shape, tensor.dtype))
        if tensor is None:
            tensor = torch.empty(meta[0], dtype=meta[1], device=device)
        if self.world > 1:
            tensor = tensor.contiguous()
            dist.broadcast(tensor, src=0)
        return tensor

    def add(self, tensor: Tensor) -> Tensor:
        """The same tensor, with what it is on all ranks added up in it. Collective."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether it is set on any rank. Collective."""
        return bool(self.add(torch.tensor(int(flag))))


@dataclass(frozen=True, slots=True)
class Ranks(World):
    """Ranks that compute a video, and the groups that this one belongs to."""

    half: Group
    """Ranks that compute the same pass of guidance."""
    pair: Group
    """The rank of the same place in each half."""
    exchange: str = ONE
    """Layout of the ranks, see `layout_of`."""

    def gather_halves(self, mine: Tensor) -> tuple[Tensor, Tensor]:
        """A tensor of the first half's ranks, and of the second's. Collective."""
        both = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(both, mine.contiguous(), group=self.pair.handle)
        return both[0], both[1]


@dataclass(frozen=True, slots=True)
class Mesh(World):
    """Ranks that train, and the groups that this one belongs to."""

    local: int
    """Number of this rank among those of its node, which share a disk."""
    sequence: Group
    """Neighbours that split the tokens of each of their clips."""
    data: Group
    """The rank of the same place in each such group: they take different clips."""
    video: Ranks
    """All of them, or one alone where they have no halves, for videos on the way."""

    def first_on_node(self, action: Callable[[], T]) -> T:
        """Do something on each rank, after the first of its node has done it: what that leaves on
        the disk is there for the others. Collective.

        Raises:
            StepError: on all ranks, if it failed on any.
        """
        if self.world == 1:
            return action()
        made = self.together(lambda: None if self.local else action())
        return self.together(lambda: action() if self.local else cast(T, made))


def join(rank: int, world: int, rendezvous: Path, parallel: ParallelSpec | None = None) -> Ranks:
    """Meet the other ranks at a file that all of them see. Collective.

    Args:
        parallel: the library that exchanges tokens; None: none.

    Raises:
        ValueError: for an odd number of ranks, which has no halves.
        InputError: JOB_INVALID, if the library is not there or has no place for so many ranks.
    """
    if world == 1:
        return alone()
    if world % 2:
        raise ValueError(f"{world} ranks have no halves: take 1, or an even number")
    _meet(rank, world, f"file://{rendezvous}")
    everyone, half, pair = _halves(rank, world)
    if parallel is not None:
        found = xdit.join(rank, world, parallel.ring)
        everyone = replace(everyone, exchange=found.everyone)
        half = replace(half, exchange=found.half)
        pair = replace(pair, handle=found.pair or pair.handle)
    return Ranks(rank, world, everyone, half, pair, layout_of(world, parallel))


def join_mesh(rank: int, world: int, local: int, sequence: int, address: str) -> Mesh:
    """Meet the other ranks that train. Collective.

    Args:
        local: number of this rank among those of its node.
        sequence: number of ranks that split the tokens of a clip; divides `world`.
        address: of torch's `init_process_group`, as its `init_method`.
    """
    if world == 1:
        return lone_mesh()
    _meet(rank, world, address)
    groups = groups_of(rank, world, sequence)
    if world % 2:
        return Mesh(rank, world, _group([tuple(range(world))], rank), local, *groups, alone())
    video = Ranks(rank, world, *_halves(rank, world))
    return Mesh(rank, world, video.everyone, local, *groups, video)


def groups_of(rank: int, world: int, sequence: int) -> tuple[Group, Group]:
    """(sequence, data) of a `Mesh`, in which as many neighbours split the tokens of a clip.
    Collective."""
    neighbours = [tuple(range(first, first + sequence)) for first in range(0, world, sequence)]
    apart = [tuple(range(place, world, sequence)) for place in range(sequence)]
    return _group(neighbours, rank), _group(apart, rank)


def alone() -> Ranks:
    """One process that computes all by itself, and never communicates."""
    group = Group((0,), 0)
    return Ranks(0, 1, group, group, group)


def lone_mesh() -> Mesh:
    """One process that trains by itself, and never communicates."""
    group = Group((0,), 0)
    return Mesh(0, 1, group, 0, group, group, alone())


def _meet(rank: int, world: int, address: str) -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, init_method=address, rank=rank, world_size=world, timeout=TIMEOUT
    )


def _halves(rank: int, world: int) -> tuple[Group, Group, Group]:
    """(everyone, half, pair) of a `Ranks`."""
    middle = world // 2
    everyone = _group([tuple(range(world))], rank)
    half = _group([tuple(range(middle)), tuple(range(middle, world))], rank)
    return everyone, half, _group([(place, place + middle) for place in range(middle)], rank)


def _group(ranks: list[tuple[int, ...]], rank: int) -> Group:
    """Make the groups on all ranks, in one order; return the one that `rank` is in."""
    found = None
    for members in ranks:
        handle = dist.new_group(list(members), timeout=TIMEOUT) if len(members) > 1 else None
        if rank in members:
            found = Group(members, members.index(rank), handle)
    assert found is not None
    return found
