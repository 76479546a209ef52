"""Exchange of tokens by xDiT: groups of xfuser, and yunchang's attention over long contexts.

Ulysses and ring attention together (Fang and Zhao 2024, USP, section 3): ranks share the heads, and
in a ring keys and values go round among groups of such ranks. Only the CUDA flavour of the runtime
image has both libraries. xfuser cannot be imported where torch has no CUDA; on CPUs yunchang, which
it stands on, makes the groups. xfuser's own class of that attention adds what is not wanted here,
and imports from yunchang what no release of it has.

The attention takes the same number of tokens of each rank, and attends to what fills them up. Here
the kernel is ours, and sees none of that.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models.dit.kernels import WITH_SUMS, Kernel, by_head

# Shapes: a batch of 1, l tokens of this rank, P of each rank with what fills them up, H heads, d
# width of a head, D all heads together.

XFUSER, YUNCHANG = "xfuser", "yunchang"


class Joined(NamedTuple):
    """Groups of a rank."""

    everyone: LongContext
    half: LongContext | None
    """None: each half is one rank."""
    pair: Any
    """Handle of xfuser's group of the two branches of guidance; None on CPUs."""


class LongContext:
    """Attention of the ranks of one group."""

    def __init__(self, ring: int) -> None:
        """Attention of the group that yunchang has at present."""
        self.ring = ring
        self._attention = _package(YUNCHANG).LongContextAttention()

    def attend(
        self, tokens: Sequence[Tensor], heads: int, lengths: Sequence[int], kernel: Kernel
    ) -> Tensor:
        """Attention of this rank's tokens, [1, l, D]. Collective.

        Args:
            tokens: queries, keys and values [1, l, D].
            lengths: number of tokens of each rank.
        """
        own = tokens[0].shape[1]
        q, k, v = (by_head(_filled(each, max(lengths)), heads) for each in tokens)
        self._attention.ring_attn_fn = partial(_around, lengths=lengths, kernel=kernel)
        found: Tensor = self._attention(q, k, v)
        return found[:, :own].flatten(2)


def join(rank: int, world: int, ring: int) -> Joined:
    """Make the libraries' groups: of the ranks of each half, which compute one branch of guidance,
    and of all ranks. Collective.

    Raises:
        InputError: JOB_INVALID, if a library is not there or the halves do not divide.
    """
    middle = world // 2
    if ring > 1 and middle % ring:
        text = f"parallelism.ring: {ring} does not divide the {middle} GPUs of a branch of guidance"
        raise InputError(Reason.JOB_INVALID, text)
    ulysses, pair = middle // ring, None
    sequence = _package(YUNCHANG).set_seq_parallel_pg
    if torch.cuda.is_available():
        groups = _package("xfuser.core.distributed")
        groups.init_distributed_environment(world, rank, local_rank=rank)
        groups.initialize_model_parallel(
            classifier_free_guidance_degree=2, ulysses_degree=ulysses, ring_degree=ring
        )
        pair = groups.get_cfg_group().device_group
    else:
        sequence(ulysses, ring, rank, world)
    half = LongContext(ring) if middle > 1 else None
    sequence(world // ring, ring, rank, world)
    return Joined(LongContext(ring), half, pair)


def _around(
    q_1PHd: Tensor, k_1PHd: Tensor, v_1PHd: Tensor, *, group: Any, lengths: Sequence[int],
    kernel: Kernel, **_: object,
) -> Tensor:  # fmt: skip
    """Attention of the queries of this rank's heads to the keys of all parts of a ring, of which
    each is at one rank at first: in the place of yunchang's own. Collective."""
    parts = _package("yunchang.ring.utils")
    ring = parts.RingComm(group)
    heads = q_1PHd.shape[2]
    shares = len(lengths) // ring.world_size
    lengths_of = [lengths[part * shares :][:shares] for part in range(ring.world_size)]
    mine = lengths_of[ring.rank]
    q = _kept(q_1PHd, mine)
    if ring.world_size == 1:
        found = kernel(q, _kept(k_1PHd, mine), _kept(v_1PHd, mine), heads)
        return _refilled(by_head(found, heads), mine, max(lengths))
    total, sums = None, None
    coming = [k_1PHd.contiguous(), v_1PHd.contiguous()]
    for turn in range(ring.world_size):
        here = coming
        if turn + 1 < ring.world_size:
            coming = [ring.send_recv(each) for each in here]
            ring.commit()
        of = lengths_of[(ring.rank - turn) % ring.world_size]
        found, own_sums = WITH_SUMS[kernel](q, _kept(here[0], of), _kept(here[1], of), heads)
        total, sums = parts.update_out_and_lse(total, sums, by_head(found, heads), own_sums)
        if turn + 1 < ring.world_size:
            ring.wait()
    assert total is not None
    return _refilled(total.to(q_1PHd.dtype), mine, max(lengths))


def _filled(x_1lD: Tensor, count: int) -> Tensor:
    missing = count - x_1lD.shape[1]
    return F.pad(x_1lD, (0, 0, 0, missing)) if missing else x_1lD


def _kept(x_1PHd: Tensor, lengths: Sequence[int]) -> Tensor:
    """Tokens of several ranks, [1, L, D], without what fills them up."""
    x, each = x_1PHd.flatten(2), x_1PHd.shape[1] // len(lengths)
    if min(lengths) == each:
        return x
    return torch.cat([x[:, at * each :][:, :n] for at, n in enumerate(lengths)], 1)


def _refilled(x_1LHd: Tensor, lengths: Sequence[int], count: int) -> Tensor:
    if min(lengths) == count:
        return x_1LHd
    made = x_1LHd.new_zeros(1, count * len(lengths), *x_1LHd.shape[2:])
    for at, part in enumerate(torch.split(x_1LHd, list(lengths), 1)):
        made[:, at * count :][:, : part.shape[1]] = part
    return made


def _package(name: str) -> Any:
    """Raises InputError(JOB_INVALID) if it is not there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what torch will drop
            found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            Reason.JOB_INVALID,
            f"parallelism.backend: xDiT needs the package {error.name}, which the CUDA flavour of "
            "the runtime image has and this one lacks: take that image, or backend Native",
        ) from error
    if name.startswith(XFUSER):
        logging.getLogger(XFUSER).handlers.clear()  # to stdout, in lines of its own kind
    return found
