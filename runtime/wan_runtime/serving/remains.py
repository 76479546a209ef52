"""The queue of a deleted service, and its objects: what waits goes, the rest by its retention."""

from __future__ import annotations

import asyncio
import logging

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.left import LeftQueue
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.serving.objects import jobs_below, remove
from wan_runtime.serving.queue.errors import DatabaseRefused, QueueAway, SchemaNewer
from wan_runtime.serving.queue.opening import opened
from wan_runtime.serving.queue.remains import Remains
from wan_runtime.serving.queue.services import Identity, find
from wan_runtime.serving.queue.work import Keeping

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0


async def clear(left: LeftQueue, url: str, store: Store) -> None:
    """Remove it. Raises StepError: InputError(JOB_INVALID) if the service still has a gateway or
    worker, as an orphan or in a copy of the cluster."""
    try:
        database, _ = await opened(url, PATIENCE_SECONDS, None)
    except (DatabaseRefused, SchemaNewer) as error:
        raise InputError(Reason.JOB_INVALID, str(error)) from error
    except QueueAway as error:
        raise InfrastructureError(Reason.UNEXPECTED, str(error)) from error
    try:
        identity = Identity.left(left)
        queue = await database.transact("find", lambda each: find(each, identity))
        if queue is None:
            log.info("%s/%s has left no video", left.namespace, left.name)
            return
        remains = Remains(database, Keeping(queue, left.prefix, 0))
        if not await remains.mark_deleted():
            text = f"{left.namespace}/{left.name} is still served: nothing is removed"
            raise InputError(Reason.JOB_INVALID, text)
        await _remove_ownerless(remains, store)
        jobs = await remains.clear(lambda keys: asyncio.to_thread(remove, store, keys))
        until = await remains.last_end()
        kept = f"others are kept until {until:%Y-%m-%d %H:%M} UTC" if until else "nothing is left"
        log.info("%s/%s: %d videos removed, %s", left.namespace, left.name, jobs, kept)
    except QueueAway as error:
        raise InfrastructureError(Reason.UNEXPECTED, str(error)) from error
    finally:
        database.close()


async def _remove_ownerless(remains: Remains, store: Store) -> None:
    """Remove the folders of no job: a gateway that died between keeping a photo and queueing its
    job has left one."""
    folder = f"{remains.keeping.prefix}/videos/"
    found = await asyncio.to_thread(jobs_below, store, folder)
    ownerless = found - await remains.existing(found)
    await asyncio.to_thread(remove, store, [f"{folder}{each}/" for each in sorted(ownerless)])
