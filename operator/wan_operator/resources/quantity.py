"""Kubernetes quantities: `500m`, `64Gi`, `1e3`."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+))([num]|[kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+|)"
)
_FACTORS = {
    **{letter: Decimal(1000) ** power for power, letter in enumerate(("", *"kMGTPE"))},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** -power for power, letter in enumerate("mun", 1)},
}


def amount(quantity: str) -> Decimal:
    """The number that it stands for. Raises ValueError for what is no quantity."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity")
    number, suffix = match.groups()
    if suffix in _FACTORS:
        return Decimal(number) * _FACTORS[suffix]
    return Decimal(number + suffix)
