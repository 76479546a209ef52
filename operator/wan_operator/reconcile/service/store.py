"""The store of a service is part of what it is: its photos and videos are there."""

from __future__ import annotations

from wan_operator.api.v1alpha1.common import EffectiveStore
from wan_operator.api.v1alpha1.inference import EffectiveService
from wan_operator.reconcile.service.state import Service


def other_store(service: Service, effective: EffectiveService) -> str | None:
    """Why the store is not changed: photos and videos are in the one that is in use, and nobody
    would find them, nor remove them after their time. None: it stays, or nothing is in it."""
    before = service.status.effective
    if before is None or _address(before.store) == _address(effective.store):
        return None
    status, report = service.status, service.report
    waits = report is not None and report.queue.queued + report.queue.running > 0
    if not (status.sizes or status.startup or waits):
        return None  # no worker has rendered anything
    return (
        f"spec.store, with the Helm values store.*, now names {_address(effective.store)}, and the "
        f"photos and videos of this service are in {_address(before.store)}, where they would no "
        "longer be found, nor removed after their retention: set it back. Another store takes "
        "another service: make one with that store, and delete this one once its videos are "
        "fetched. Until then no change is acted on, and what serves goes on with the store that "
        "it has"
    )


def _address(store: EffectiveStore) -> str:
    """Where its objects are."""
    parts = (store.endpoint.rstrip("/"), store.bucket, store.prefix.strip("/"))
    return "/".join(filter(None, parts))
