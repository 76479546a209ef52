"""The full sweep: bulk LISTs, the same pure decision on the snapshot, and a live read where it
would change something.

At cold start and every few minutes. It heals what watches lose, at one paginated LIST a kind
instead of four reads for each of thousands of resources that are fine.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import TopologicalSorter

from wan_operator.kinds import KINDS, key_of, owner_of
from wan_operator.kube import Kube, merge_patch
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Key, Observed, Raw, finished, step_of
from wan_operator.resources.left import left_of
from wan_operator.settings import Settings
from wan_operator.watchdog import Watchdog
from wan_runtime.contract.left import Left


@dataclass(slots=True)
class Snapshot:
    """What a sweep has seen: all that is counted, and of resources that may need something,
    everything."""

    crs: dict[Key, Raw] = field(default_factory=dict)
    children: dict[Key, dict[str, list[Raw]]] = field(default_factory=dict)
    followed_by: dict[Key, frozenset[Key]] = field(default_factory=dict)
    followed: dict[Key, Raw] = field(default_factory=dict)
    waiting: list[tuple[Raw, Left]] = field(default_factory=list)
    """Jobs that will remove what resources have left."""
    states: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Number of resources by kind and state."""
    steps: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Number of unfinished Jobs by kind of the owner and step."""

    def observed(self, key: Key) -> Observed:
        followed = self.followed_by.get(key, frozenset())
        return Observed(
            children=self.children.get(key, {}),
            followed={each: self.followed[each] for each in followed & self.followed.keys()},
        )


async def take(kube: Kube, watchdog: Watchdog, settings: Settings) -> Snapshot:
    snapshot = Snapshot()
    watched = {child for kind in KINDS.values() for child in kind.watched}
    for kind in (*in_order(), *children()):
        began, uids = time.monotonic(), set()
        is_watched = kind in KINDS or kind in watched
        for namespace in settings.watch_namespaces or (None,):
            async for item in kube.list_all(kind, namespace):
                metadata = item["metadata"]
                if is_watched:
                    uids.add(metadata["uid"])
                    watchdog.listed(kind, metadata["uid"], metadata["resourceVersion"], began)
                if kind in KINDS:
                    _keep(snapshot, kind, item)
                else:
                    _keep_child(snapshot, kind, item)
        watchdog.keep_only(kind, uids)
    return snapshot


def in_order() -> Iterable[str]:
    """A kind that follows others comes before them: of those, only what is followed is kept."""
    followed = {name: kind.follows.kinds if kind.follows else () for name, kind in KINDS.items()}
    return reversed([*TopologicalSorter(followed).static_order()])


def children() -> Iterable[str]:
    return dict.fromkeys(child for kind in KINDS.values() for child in kind.children)


def _keep(snapshot: Snapshot, kind: str, item: Raw) -> None:
    key = key_of(kind, item)
    snapshot.states[kind, state_of(item)] += 1
    if KINDS[kind].needs_reconcile(item):
        snapshot.crs[key] = item
        if followed := KINDS[kind].followed_by(item):
            snapshot.followed_by[key] = followed
    if any(key in each for each in snapshot.followed_by.values()):
        snapshot.followed[key] = item


def _keep_child(snapshot: Snapshot, kind: str, item: Raw) -> None:
    key = owner_of(item)
    if key is None:
        left = left_of(item) if kind == "Job" else None
        snapshot.waiting += [(item, left)] if left else []
        return
    if kind == "Job" and not finished(item):
        snapshot.steps[key.kind, step_of(item)] += 1
    if key in snapshot.crs:
        snapshot.children.setdefault(key, {}).setdefault(kind, []).append(item)


async def act(
    snapshot: Snapshot, settings: Settings, enqueue: Callable[[Key, float], None]
) -> None:
    """Enqueues what a live read would change, and otherwise the time of the next reconcile."""
    for key, cr in snapshot.crs.items():
        try:
            observed = snapshot.observed(key)
            decision = KINDS[key.kind].reconcile(cr, observed, settings, datetime.now(UTC))
        except Exception:  # A bug with one resource must not stop the sweep; the worker reports it.
            enqueue(key, 0.0)
            continue
        if changes_something(cr, decision):
            enqueue(key, 0.0)
        elif decision.requeue_after is not None:
            enqueue(key, decision.requeue_after)
        await asyncio.sleep(0)  # Thousands of decisions must not hold up the loop.


def changes_something(cr: Raw, decision: Decision) -> bool:
    if decision.children or decision.deletes or decision.resyncs:
        return True
    return decision.status is not None and bool(merge_patch(cr.get("status", {}), decision.status))


def state_of(cr: Raw) -> str:
    listed = cr.get("status", {}).get("conditions", [])
    return next((each["type"] for each in listed if each["status"] == "True"), "New")
