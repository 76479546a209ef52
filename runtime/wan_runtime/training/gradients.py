"""Gradients of ranks that each hold all of what is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from wan_runtime.models.dit.parallel import World

BUCKET_BYTES = 1 << 30
"""Gradients that are sent at once: all of an adapter's."""


def add_up(parameters: Iterable[nn.Parameter], ranks: World) -> None:
    """Add up each parameter's gradient over all ranks: each computed it of its own tokens of its
    own clips, of a loss that is divided by the clips of all. Collective."""
    if ranks.world == 1:
        return
    gradients = [each.grad for each in parameters if each.grad is not None]
    for bucket in _buckets(gradients):
        flat = ranks.add(torch.cat([gradient.flatten() for gradient in bucket]))
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(each.nbytes for each in bucket) + tensor.nbytes > BUCKET_BYTES:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
