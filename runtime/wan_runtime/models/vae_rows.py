"""A picture's rows, shared by ranks that encode or decode it.

In place of encoding more rows than its own, as much as the layers to come would spoil at a cut, a
rank gets a neighbour's next row before each convolution: pictures shrink on their way, so that the
rows to encode more would be 84 of 360 at full size for two ranks, and one is as little as exchange
allows. Where a video is decoded, ranks meet at pictures of the latents' size alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import P2POp

from wan_runtime.models.dit.parallel import Group, Ranks
from wan_runtime.models.vae_bands import Band

# Shapes: T frames, h rows of this rank's band, H rows of all, W columns, C channels.


class SharedRows:
    """Bands of rows, the first of which is rank 0's, the next rank 1's and so on."""

    def __init__(self, bands: Sequence[Band], rank: int, everyone: Group) -> None:
        """
        Args:
            bands: of rows of latents; two or more.
            rank: this one, which has a band.
        """
        self._bands, self._rank, self._group = bands, rank, everyone.handle

    @property
    def own(self) -> Band:
        """This rank's."""
        return self._bands[self._rank]

    @staticmethod
    def meet(ranks: Ranks, device: torch.device) -> None:
        """Let all ranks begin together: NCCL demands it of a group before some of its ranks
        exchange. Collective."""
        if ranks.world > 1:
            dist.all_reduce(torch.zeros(1, device=device), group=ranks.everyone.handle)

    def with_neighbours(self, x_ThWC: Tensor, *, above: bool) -> Tensor:
        """Rows with the one below them and, where a layer sees it, the one above: a neighbour's, or
        zeros beyond the picture. [T, h + 1, W, C] or [T, h + 2, W, C]. Collective."""
        before, after = self._rank - 1, self._rank + 1
        one = x_ThWC[:, :1]
        # Not by `zeros_like`, which takes strides over that no exchange can write to.
        upper, lower = one.new_zeros(one.shape), one.new_zeros(one.shape)
        moves: list[P2POp] = []
        if before >= 0:
            moves.append(self._send(one, before))
            if above:
                moves.append(self._receive(upper, before))
        if after < len(self._bands):
            moves.append(self._receive(lower, after))
            if above:
                moves.append(self._send(x_ThWC[:, -1:], after))
        _finish(moves)
        return torch.cat([upper, x_ThWC, lower] if above else [x_ThWC, lower], 1)

    def all(self, x_ThWC: Tensor) -> Tensor:
        """Rows of all ranks, of a picture of the latents' size. [T, H, W, C]. Collective."""
        height = self.own.height
        return self._exchanged(x_ThWC, [Band(0, height, height)] * len(self._bands))

    def wider(self, x_ThWC: Tensor, margin: int) -> Tensor:
        """Rows of a picture of the latents' size, and those of others that `Band.wider` has.
        Collective."""
        return self._exchanged(x_ThWC, [each.wider(margin) for each in self._bands])

    def begin_joining(self, x_ThWC: Tensor) -> tuple[list[Tensor], list[Any]]:
        """Begin to bring all ranks' rows to rank 0. Collective.

        Args:
            x_ThWC: of a picture of any size.

        Returns:
            On rank 0 the rows of all ranks, in order, and what to wait for before they are used; on
            others their own, and what to wait for before they are let go.
        """
        x_ThWC = x_ThWC.contiguous()
        if self._rank:
            return [x_ThWC], dist.batch_isend_irecv([self._send(x_ThWC, 0)])
        frames, height, *others = x_ThWC.shape
        scale = height // (self.own.last - self.own.first)
        parts, moves = [x_ThWC], []
        for number, band in enumerate(self._bands[1:], start=1):
            parts.append(x_ThWC.new_empty(frames, scale * (band.last - band.first), *others))
            moves.append(self._receive(parts[-1], number))
        return parts, dist.batch_isend_irecv(moves)

    def _exchanged(self, x_ThWC: Tensor, wanted: Sequence[Band]) -> Tensor:
        """Rows that this rank wants, its own among them. Collective.

        Args:
            wanted: by each rank.
        """
        frames, _, *others = x_ThWC.shape
        parts: list[Tensor] = []
        moves: list[P2POp] = []
        for number, band in enumerate(self._bands):
            if number == self._rank:
                parts.append(x_ThWC)
                continue
            theirs = x_ThWC[:, wanted[number].within(self.own)]
            if theirs.shape[1]:
                moves.append(self._send(theirs, number))
            found = wanted[self._rank].within(band)
            if found.start < found.stop:
                parts.append(x_ThWC.new_empty(frames, found.stop - found.start, *others))
                moves.append(self._receive(parts[-1], number))
        _finish(moves)
        return torch.cat(parts, 1)

    def _send(self, x: Tensor, rank: int) -> P2POp:
        return P2POp(dist.isend, x.contiguous(), rank, self._group)

    def _receive(self, x: Tensor, rank: int) -> P2POp:
        return P2POp(dist.irecv, x, rank, self._group)


def _finish(moves: list[P2POp]) -> None:
    for move in dist.batch_isend_irecv(moves):
        move.wait()
