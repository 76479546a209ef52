"""Ranks of one gang that compute one video: who does which part, and how they meet.

With guidance, the two forward passes of a step go to one half of the ranks each; the ranks of a
half split the tokens (Ulysses: Jacobs et al. 2023, DeepSpeed-Ulysses, section 3). Without guidance
all ranks split the tokens. Both kinds of groups exist from the start, because the two experts of a
request may differ in this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from diffsynth.models.wan_video_dit import flash_attention
from torch import Tensor, nn

from wan_runtime.errors import StepError
from wan_runtime.rendering.order import Problem
from wan_runtime.serving.worker.arguments import RANKS
from wan_runtime.serving.worker.problems import Unrenderable, problem_of

log = logging.getLogger(__name__)

T = TypeVar("T")

# Shapes: a batch of 1, L tokens of the whole video, l of this rank, D width, N ranks of a group.

PATIENCE = timedelta(hours=2)
"""Of a collective. Long, because loading is; the supervisor ends a stuck gang far sooner."""


@dataclass(frozen=True, slots=True)
class Group:
    """Ranks that work together, in order. One rank alone never communicates."""

    ranks: tuple[int, ...]
    index: int
    """Of this rank within it."""
    handle: Any = None

    @property
    def size(self) -> int:
        return len(self.ranks)


@dataclass(slots=True)
class Sequence:
    """The tokens of a video, split over a group: contiguous, without padding, the first ranks have
    one more where they do not divide."""

    group: Group
    lengths: list[int] = field(default_factory=list)
    """Tokens of each rank, in the pass at work."""

    def mine(self, sequence: Tensor, dim: int) -> Tensor:
        """This rank's tokens."""
        parts = sequence.tensor_split(self.group.size, dim)
        self.lengths = [part.shape[dim] for part in parts]
        return parts[self.group.index].contiguous()

    def whole(self, mine: Tensor, dim: int) -> Tensor:
        """The tokens of all ranks, in order."""
        first = mine.transpose(0, dim)
        padded = first.new_zeros(max(self.lengths), *first.shape[1:])
        padded[: len(first)] = first
        parts = [torch.empty_like(padded) for _ in self.lengths]
        dist.all_gather(parts, padded, group=self.group.handle)
        kept = [part[:length] for part, length in zip(parts, self.lengths, strict=True)]
        return torch.cat(kept).transpose(0, dim)

    def heads_apart(self, x_1lD: Tensor) -> Tensor:
        """[1, L, D / N]: all tokens of this rank's share of the heads."""
        size, own = self.group.size, x_1lD.shape[1]
        sent = torch.cat(x_1lD[0].chunk(size, dim=1))
        got = sent.new_empty(sum(self.lengths), sent.shape[1])
        dist.all_to_all_single(got, sent, self.lengths, [own] * size, group=self.group.handle)
        return got[None]

    def heads_together(self, x_1Ld: Tensor) -> Tensor:
        """[1, l, D]: this rank's tokens of all heads."""
        size, own = self.group.size, self.lengths[self.group.index]
        sent = x_1Ld[0].contiguous()
        got = sent.new_empty(own * size, sent.shape[1])
        dist.all_to_all_single(got, sent, [own] * size, self.lengths, group=self.group.handle)
        return torch.cat(got.chunk(size), dim=1)[None]


@dataclass(slots=True)
class Gang:
    """This rank's place in it."""

    rank: int
    world: int
    everyone: Group
    half: Group
    """Ranks that compute the same pass of guidance."""
    pair: Group
    """The rank of the same place in each half."""
    sequence: Sequence | None = None
    """How the pass at work splits its tokens; None where one rank has them all."""

    def split_tokens(self, group: Group) -> Sequence | None:
        """From now on attention meets in `group`; what is returned splits the tokens."""
        self.sequence = Sequence(group) if group.size > 1 else None
        return self.sequence

    def of_both(self, mine: Tensor) -> tuple[Tensor, Tensor]:
        """A tensor of the first half's ranks, and of the second's."""
        both = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(both, mine.contiguous(), group=self.pair.handle)
        return both[0], both[1]

    def together(self, action: Callable[[], T]) -> T:
        """Do something on each rank that may fail on one. Collective.

        Raises:
            Unrenderable: on all ranks, if it failed on any: none is left waiting for another.
        """
        made, mine = None, None
        try:
            made = action()
        except Exception as error:
            log.warning("%s", error, exc_info=not isinstance(error, StepError))
            mine = problem_of(error)
        found: list[Problem | None] = [mine]
        if self.world > 1:
            found *= self.world
            dist.all_gather_object(found, mine)
        for problem in filter(None, found):
            raise Unrenderable(problem)
        return cast(T, made)

    def from_first(self, value: Any) -> Any:
        """A small object of rank 0, on all ranks."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def tensor_from_first(self, tensor: Tensor | None, device: torch.device) -> Tensor:
        """A tensor of rank 0, on all ranks."""
        meta = self.from_first(None if tensor is None else (tensor.shape, tensor.dtype))
        if tensor is None:
            tensor = torch.empty(meta[0], dtype=meta[1], device=device)
        if self.world > 1:
            tensor = tensor.contiguous()
            dist.broadcast(tensor, src=0)
        return tensor


def join(rank: int, world: int, rendezvous: Path) -> Gang:
    """Meet the other ranks at a file that all of them see. Collective.

    Raises:
        ValueError: for a number of ranks that is not of RANKS.
    """
    if world not in RANKS:
        raise ValueError(f"{world} ranks: a gang has {', '.join(map(str, RANKS))}")
    if world == 1:
        alone = Group((0,), 0)
        return Gang(0, 1, alone, alone, alone)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, init_method=f"file://{rendezvous}", rank=rank, world_size=world, timeout=PATIENCE
    )
    middle = world // 2
    everyone = _group([tuple(range(world))], rank)
    half = _group([tuple(range(middle)), tuple(range(middle, world))], rank)
    pair = _group([(place, place + middle) for place in range(middle)], rank)
    return Gang(rank, world, everyone, half, pair)


def _group(ranks: list[tuple[int, ...]], rank: int) -> Group:
    """The one of these groups that has `rank`. Each must be made by all ranks, in one order."""
    found = None
    for members in ranks:
        handle = dist.new_group(list(members), timeout=PATIENCE) if len(members) > 1 else None
        if rank in members:
            found = Group(members, members.index(rank), handle)
    assert found is not None
    return found


class Ulysses(nn.Module):
    """Attention over the tokens of all ranks of `gang.sequence`: each gets all tokens of its share
    of the heads, and gives back its own tokens of all heads. No padding: none is attended to."""

    def __init__(self, gang: Gang, heads: int) -> None:
        super().__init__()
        self.gang, self.heads = gang, heads

    def forward(self, q_1lD: Tensor, k_1lD: Tensor, v_1lD: Tensor) -> Tensor:
        """[1, l, D] of this rank's tokens."""
        sequence = self.gang.sequence
        if sequence is None:
            alone: Tensor = flash_attention(q_1lD, k_1lD, v_1lD, num_heads=self.heads)
            return alone
        q, k, v = map(sequence.heads_apart, (q_1lD, k_1lD, v_1lD))
        seen = flash_attention(q, k, v, num_heads=self.heads // sequence.group.size)
        return sequence.heads_together(seen)


def share_attention(dit: Any, gang: Gang) -> None:
    """Make the self-attention of a transformer meet across ranks.

    Raises:
        ValueError: if its heads do not divide by the ranks.
    """
    heads = dit.blocks[0].self_attn.num_heads
    if heads % gang.world:
        raise ValueError(f"{heads} attention heads do not divide by {gang.world} ranks")
    for block in dit.blocks:
        block.self_attn.attn = Ulysses(gang, heads)
