"""The full look: bulk LISTs, the same pure decision on the snapshot, and a live look where it
would change something.

At cold start and every few minutes. It heals what watches lose, at three paginated LISTs instead
of four reads for each of thousands of resources that are fine.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wan_operator.api.v1alpha1.finetune import KIND
from wan_operator.kube import Kube, merge_patch
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.finetune import needs_look, reconcile
from wan_operator.reconcile.observed import Observed, finished, label, step_of
from wan_operator.resources.labels import FINETUNE
from wan_operator.settings import Settings
from wan_operator.watchdog import Watchdog

Raw = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name) of a WanFineTune."""


@dataclass(slots=True)
class Snapshot:
    """What a sweep has seen: all that is counted, and of runs that may need something,
    everything."""

    crs: dict[Key, Raw] = field(default_factory=dict)
    children: dict[Key, dict[str, list[Raw]]] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)

    def observed(self, key: Key) -> Observed:
        found = self.children.get(key, {})
        return Observed(
            jobs=found.get("Job", []),
            pods=found.get("Pod", []),
            config_maps=found.get("ConfigMap", []),
        )


async def take(kube: Kube, watchdog: Watchdog, settings: Settings) -> Snapshot:
    snapshot = Snapshot()
    for kind in (KIND, "ConfigMap", "Job", "Pod"):
        began, uids = time.monotonic(), set()
        for namespace in settings.watch_namespaces or (None,):
            async for item in kube.list_all(kind, namespace):
                metadata = item["metadata"]
                if kind != "ConfigMap":  # which are not watched: an edit of one changes nothing
                    uids.add(metadata["uid"])
                    watchdog.listed(kind, metadata["uid"], metadata["resourceVersion"], began)
                _keep(snapshot, kind, item)
        watchdog.keep_only(kind, uids)
    return snapshot


def _keep(snapshot: Snapshot, kind: str, item: Raw) -> None:
    metadata = item["metadata"]
    if kind == KIND:
        snapshot.states[state_of(item)] += 1
        if needs_look(item):
            snapshot.crs[metadata["namespace"], metadata["name"]] = item
        return
    if kind == "Job" and not finished(item):
        snapshot.steps[step_of(item)] += 1
    key = (metadata["namespace"], label(item, FINETUNE))
    if key in snapshot.crs:
        snapshot.children.setdefault(key, {}).setdefault(kind, []).append(item)


async def act(
    snapshot: Snapshot, settings: Settings, enqueue: Callable[[Key, float], None]
) -> None:
    """Enqueues what a live look would change, and otherwise the time of the next look."""
    for key, cr in snapshot.crs.items():
        try:
            decision = reconcile(cr, snapshot.observed(key), settings, datetime.now(UTC))
        except Exception:  # A bug with one resource must not stop the sweep; the worker reports it.
            enqueue(key, 0.0)
            continue
        if changes_something(cr, decision):
            enqueue(key, 0.0)
        elif decision.look_again_after is not None:
            enqueue(key, decision.look_again_after)
        await asyncio.sleep(0)  # Thousands of decisions must not hold up the loop.


def changes_something(cr: Raw, decision: Decision) -> bool:
    if decision.children or decision.deletes:
        return True
    return decision.status is not None and bool(merge_patch(cr.get("status", {}), decision.status))


def state_of(cr: Raw) -> str:
    listed = cr.get("status", {}).get("conditions", [])
    return next((each["type"] for each in listed if each["status"] == "True"), "New")
