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
from wan_operator.resources.labels import WAITS_FOR, Manifest
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
    """Lets Jobs go that are due, and whose files no living resource names; the others say which
    one does. Raises TransientError: the next sweep goes on."""
    now = datetime.now(UTC)
    for job, left in waiting:
        if left.due > now:
            continue
        try:
            await _release(kube, job, named_by(left, living))
        except PermanentError as error:
            about = {"child": f"Job {job['metadata']['name']}", "error": str(error)}
            logger.warning("what it would remove stays", extra=about)


async def _release(kube: Kube, job: Raw, reader: str) -> None:
    metadata = job["metadata"]
    if not reader:
        await kube.unsuspend(job)
    elif metadata.get("annotations", {}).get(WAITS_FOR) != reader:
        child = f"Job {metadata['namespace']}/{metadata['name']}"
        logger.info("what it would remove is kept", extra={"child": child, "cause": reader})
        await kube.explain(job, reader)


def named_by(left: Left, living: Iterable[Raw]) -> str:
    """The resource whose spec names something in the folders, as `initFrom` or `adapters` can, and
    the folder; empty without one."""
    if left.folders is None:
        return ""
    addresses = [f"s3://{left.store.bucket}/{each.rstrip('/')}" for each in left.folders.keys]
    for cr in living:
        spec, metadata = json.dumps(cr["spec"]), cr["metadata"]
        for address in addresses:
            if address in spec:
                return f"{cr['kind']} {metadata['namespace']}/{metadata['name']} names {address}"
    return ""
