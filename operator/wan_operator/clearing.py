"""Has removed what deleted resources and failed runs left, once nothing holds it.

A deleted resource has no finalizer that could hold it. Its last version, which the watch delivers,
says what it left: a suspended Job in its namespace keeps that until it is due.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from pydantic import ValidationError

from wan_operator.errors import PermanentError, TransientError
from wan_operator.kinds import Kind, key_of
from wan_operator.kube import Kube
from wan_operator.reconcile.observed import Raw, is_disabled
from wan_operator.resources.labels import Manifest
from wan_operator.settings import Settings
from wan_runtime.contract.left import Left

logger = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before further tries at an API server that does not answer."""


async def after_deletion(kube: Kube, kind: Kind, cr: Raw, settings: Settings) -> None:
    """Makes the Jobs that will remove what a deleted resource left, unless the operator was to
    leave it alone."""
    if is_disabled(cr):
        return
    about = {"kind": kind.name, "resource": cr["metadata"]["name"]}
    try:
        jobs = kind.left(cr, settings, datetime.now(UTC))
        if jobs:
            await _patiently(kube, kind, cr, jobs)
    except ValidationError:
        logger.warning("what it left stays: another release wrote it", extra=about)
    except (PermanentError, TransientError) as error:
        # As where the namespace goes with the resource.
        logger.warning("what it left stays", extra={**about, "error": str(error)})


async def _patiently(kube: Kube, kind: Kind, cr: Raw, jobs: Iterable[Manifest]) -> None:
    """Raises PermanentError, and TransientError after the last try."""
    for pause in (*PAUSES, None):
        try:
            live = await kube.get(key_of(kind.name, cr))
            if live is not None and live["metadata"]["uid"] == cr["metadata"]["uid"]:
                return  # The watch was wrong.
            for job in jobs:
                await kube.ensure(job)
        except TransientError as error:
            if pause is None:
                raise
            await asyncio.sleep(error.retry_after or pause)
        else:
            return


async def release(kube: Kube, waiting: Iterable[tuple[Raw, Left]], living: Collection[Raw]) -> None:
    """Lets Jobs go that are due, and whose files no living resource names. Raises TransientError:
    the next sweep goes on."""
    now = datetime.now(UTC)
    for job, left in waiting:
        if left.due > now or is_named(left, living):
            continue
        try:
            await kube.unsuspend(job)
        except PermanentError as error:
            about = {"child": f"Job {job['metadata']['name']}", "error": str(error)}
            logger.warning("what it would remove stays", extra=about)


def is_named(left: Left, living: Iterable[Raw]) -> bool:
    """Whether a spec names something in the folders, as `initFrom` or `adapters` can."""
    if left.folders is None:
        return False
    addresses = [f"s3://{left.store.bucket}/{each.rstrip('/')}" for each in left.folders.keys]
    specs = (json.dumps(cr["spec"]) for cr in living)
    return any(address in spec for spec in specs for address in addresses)
