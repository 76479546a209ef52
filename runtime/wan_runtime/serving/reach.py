"""Reach the database before gateway or worker begins: wait while it starts, stop if it refuses."""

from __future__ import annotations

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.serving.queue.errors import DatabaseRefused, QueueAway, SchemaNewer
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.queue.refusals import WHERE

PATIENCE_SECONDS = 60.0
"""With a server that starts: half of what the kubelet gives a pod to begin."""


async def reach(service: ServiceSpec, url: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Until the database answers and has its tables.

    Raises:
        InputError: it refuses, or is a newer release's.
        InfrastructureError: it is still away; or what opens the store is wrong.
    """
    Store.connect(service.store)
    try:
        queue = await Queue.of(service, url, patience_seconds=seconds)
    except (DatabaseRefused, SchemaNewer) as error:
        raise InputError(Reason.JOB_INVALID, str(error)) from error
    except QueueAway as error:
        text = f"{error}, for {seconds:.0f} s: start it, or correct its address {WHERE}"
        raise InfrastructureError(Reason.UNEXPECTED, text) from error
    await queue.close()
