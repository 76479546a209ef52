"""Room that the repeatable gradient of attention works in.

cuDNN's takes two bytes for each pair of a query and a key, of every head that it has at a time. So
it is given few heads at a time: as many as fit `MOST`. It depends on the sizes alone, never on what
is free, so that equal steps take equal kernels.
"""

from __future__ import annotations

MOST = 12 * 2**30
"""Bytes, unless one head takes more."""
PAIR = 2
"""Bytes of a query and a key."""


def heads_at_once(batch: int, heads: int, queries: int, keys: int) -> int:
    """Heads that are differentiated together: a divisor of all."""
    each = PAIR * batch * queries * keys
    return max(n for n in range(1, heads + 1) if not heads % n and (n == 1 or n * each <= MOST))


def workspace_bytes(batch: int, heads: int, queries: int, keys: int) -> int:
    """Bytes for those heads."""
    return PAIR * batch * queries * keys * heads_at_once(batch, heads, queries, keys)
