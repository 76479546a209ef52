"""Pictures of twice the rows and columns: pixels repeated, and a convolution of 3 x 3 over them.

Of the nine pixels that such a convolution sees, some are the same one. So a pixel of the larger
picture is a sum over 2 x 2 of the smaller one, with weights that are sums of the nine, which ones
by its place among the four that come of a pixel: four ninths of the products, and of a picture that
is never made (as Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").
"""

from __future__ import annotations

from itertools import product
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Shapes: T frames, C channels in and O out, H W rows and columns of the smaller picture.


class Doubling:
    """Doubling by one convolution."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """
        Args:
            conv: of 3 x 3, with a bias; stays as it is.
        """
        weight = conv.weight.data.float()
        rows = [_pairs(weight, 2, place) for place in range(2)]
        parts = [_pairs(row, 3, place) for row, place in product(rows, range(2))]
        # Sums are rounded once.
        joined = torch.cat(parts).to(conv.weight.dtype)
        self._weight = joined.contiguous(memory_format=torch.channels_last)
        self._bias = cast(Tensor, conv.bias)

    def __call__(self, x_TCHW: Tensor) -> Tensor:
        """Pixels [4 T H W, O], bias included, of those of a smaller picture, whose channels lie
        beside one another."""
        frames, _, height, width = x_TCHW.shape
        y = F.conv2d(x_TCHW, self._weight, padding=1).permute(0, 2, 3, 1)
        y = y.reshape(*y.shape[:3], 4, -1)
        made = y.new_empty(frames, height, 2, width, 2, y.shape[-1])
        for number, (row, column) in enumerate(product(range(2), range(2))):
            own = y[:, row : row + height, column : column + width, number]
            torch.add(own, self._bias, out=made[:, :, row, :, column])
        return made.flatten(0, -2)


def _pairs(weight: Tensor, axis: int, place: int) -> Tensor:
    """Three weights along an axis as two. At the first place of a pair they fall once on the pixel
    before and twice on the own one, at the second twice on the own one and once behind."""
    first, middle, last = (weight.narrow(axis, number, 1) for number in range(3))
    pair = (first, middle + last) if place == 0 else (first + middle, last)
    return torch.cat(pair, axis)
