"""Kueue's Workloads of the Jobs that it holds.

Read only while a Job is suspended. Without Kueue, or without the right to list Workloads,
conditions say no more than that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from wan_operator.errors import PermanentError, TransientError
from wan_operator.kube import Kube
from wan_operator.reconcile.observed import Raw, label
from wan_operator.reconcile.runs.kueue import newest
from wan_operator.resources.labels import JOB_UID

logger = logging.getLogger(__name__)

REFUSED_SECONDS = 300.0
"""Interval after which a right that is missing is tried again."""


class Workloads:
    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._refused: dict[str, float] = {}
        """Times until which namespaces are not read."""

    async def of(self, namespace: str, uids: Sequence[str]) -> dict[str, Raw]:
        """The Workloads of Jobs of these uids, by the Job's uid. Nothing fails for want of them."""
        now = time.monotonic()
        if now < self._refused.get(namespace, now):
            return {}
        try:
            found = await self._kube.list_workloads(namespace, uids)
        except TransientError as error:
            logger.info("workloads not read", extra=_of(namespace, error))
            return {}
        except PermanentError as error:
            logger.warning("workloads not read", extra=_of(namespace, error))
            self._refused[namespace] = now + REFUSED_SECONDS
            return {}
        self._refused.pop(namespace, None)
        chosen = {uid: newest([it for it in found if label(it, JOB_UID) == uid]) for uid in uids}
        return {uid: workload for uid, workload in chosen.items() if workload is not None}


def _of(namespace: str, error: Exception) -> Raw:
    return {"namespace": namespace, "error": str(error)}
