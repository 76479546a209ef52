"""What jobs have in the bucket."""

from __future__ import annotations

from collections.abc import Iterable

from wan_runtime.artifacts.store import Store


def remove(store: Store, keys: Iterable[str]) -> None:
    """Remove objects, and all below a key that ends in a slash."""
    for key in keys:
        below = store.list(key) if key.endswith("/") else ()
        store.delete([each.key for each in below] or [key])


def jobs_below(store: Store, folder: str) -> set[str]:
    """Ids of the jobs that have objects. `folder`: of all jobs, which ends in a slash."""
    keys = (entry.key for entry in store.list(folder))
    return {key.removeprefix(folder).partition("/")[0] for key in keys}
