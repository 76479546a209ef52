"""What a deleted service leaves: what waits goes when its pods have ended, videos by their
retention."""

from __future__ import annotations

from datetime import datetime, timedelta

from wan_operator.reconcile.observed import Observed, Raw
from wan_operator.reconcile.service.resolve import drain_seconds, gpu_of
from wan_operator.reconcile.service.state import read
from wan_operator.reconcile.store import ca_bundle, store_spec
from wan_operator.resources.labels import Manifest
from wan_operator.resources.left import clearing_job
from wan_operator.settings import Settings
from wan_runtime.contract.left import SILENCE_SECONDS, Left, LeftQueue
from wan_runtime.contract.service import prefix_of

ENDING = timedelta(seconds=300)
"""Pods have ended this long after their drain."""


def left(cr: Raw, settings: Settings, now: datetime) -> tuple[Manifest, ...]:
    """Jobs for what the service that was just deleted has left; none if it never began. Raises
    pydantic's ValidationError for what this release cannot read."""
    service = read(cr, Observed(), settings, now)
    spec, owner, effective = service.spec, service.owner, service.status.effective
    if effective is None:
        return ()
    bundle = ca_bundle(spec.store, settings)
    store = store_spec(effective.store, bundle is not None)
    cluster = settings.cluster_id or None
    queue = LeftQueue(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        cluster=cluster,
        prefix=prefix_of(store, cluster, owner.namespace, owner.name, owner.uid),
    )
    # During a rollout there are workers of both: status.effective is of those that serve.
    new = spec.workers.drain_seconds or drain_seconds(spec, gpu_of(spec, settings), effective)
    drain = max(new, effective.drain_seconds)
    silent = now + ENDING + timedelta(seconds=drain + SILENCE_SECONDS)
    expired = silent + timedelta(hours=spec.results.retention_hours)
    return tuple(
        clearing_job(
            owner,
            Left(store=store, queue=queue, due=due),
            part,
            spec.gateway.pod_template,
            settings,
            store_secret=effective.store.secret_name,
            database_secret=effective.database_secret,
            bundle=bundle,
            cpu_limit=spec.gateway.resources.cpu_limit,
        )
        for part, due in (("clear", silent), ("expire", expired))
    )
