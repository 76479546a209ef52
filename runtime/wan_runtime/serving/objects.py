"""Removing what is on a rubbish list."""

from __future__ import annotations

from collections.abc import Iterable

from wan_runtime.artifacts.store import Store


def remove(store: Store, keys: Iterable[str]) -> None:
    """Remove objects, and all below a key that ends in a slash."""
    for key in keys:
        below = store.list(key) if key.endswith("/") else ()
        store.delete([each.key for each in below] or [key])
