"""An attempt of a step as the cluster shows it: its Job, and the Job's pods by rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from wan_operator.reconcile.observed import (
    Raw,
    completions,
    container_state,
    controller_uid,
    created,
    finished,
    is_deleting,
    is_suspended,
    label,
    parse_time,
)

RANK = "batch.kubernetes.io/job-completion-index"
"""Label of the pods of an Indexed Job. Without it a pod is its Job's only one, of rank 0."""
LOST = timedelta(seconds=30)
"""Interval after the end of a pod's grace after which its node is taken to be lost: such a pod is
listed as running until the node is back or removed."""


@dataclass(frozen=True, slots=True)
class Attempted:
    job: Raw
    ranks: tuple[tuple[Raw, ...], ...]
    """Pods of each rank, the newest first: none yet, one, or more where the Job's controller has
    replaced one. The page and the Result of rank 0 speak for all."""

    @classmethod
    def read(cls, job: Raw, pods: Iterable[Raw]) -> Attempted:
        """The attempt of `job`, whose pods are among `pods`."""
        uid = job["metadata"]["uid"]
        own = sorted(
            (pod for pod in pods if controller_uid(pod) == uid),
            key=lambda pod: (created(pod), pod["metadata"]["name"]),
            reverse=True,
        )
        ranks = range(completions(job))
        return cls(job, tuple(tuple(pod for pod in own if rank_of(pod) == rank) for rank in ranks))

    @property
    def name(self) -> str:
        """Name of the Job."""
        name: str = self.job["metadata"]["name"]
        return name

    @property
    def pods(self) -> list[Raw]:
        """All pods, by rank."""
        return [pod for rank in self.ranks for pod in rank]

    @property
    def newest(self) -> list[Raw]:
        """The newest pod of each rank that has one, by rank."""
        return [rank[0] for rank in self.ranks if rank]

    @property
    def started(self) -> datetime | None:
        """The start of the last rank: none computes before. None while it is not known."""
        starts = [container_state(pod)[1].get("startedAt", "") for pod in self.newest]
        return max(map(parse_time, starts)) if starts and all(starts) else None

    @property
    def is_running(self) -> bool:
        """Whether the container of any rank runs."""
        return any(container_state(pod)[0] == "running" for pod in self.pods)

    @property
    def has_begun(self) -> bool:
        """Whether the container of any rank runs or has run. A pod whose image, volume or node is
        missing has not."""
        return any(
            container_state(pod)[0] in ("running", "terminated") or _has_ended(pod)
            for pod in self.pods
        )

    @property
    def is_over(self) -> bool:
        """Whether it has pods and all have ended. The Job's controller marks a Job a moment after
        the end of its pods; such a Job needs no deletion, and the logs stay."""
        return bool(self.newest) and all(map(_has_ended, self.newest))

    @property
    def ends_itself(self) -> bool:
        """Whether a pod has failed, after which the Job's controller ends the others, unless a
        queue holds the Job. Deleting the Job would take the failed pod and its log away."""
        failed = any(pod.get("status", {}).get("phase") == "Failed" for pod in self.newest)
        return failed and not is_suspended(self.job)

    def is_stopping(self, now: datetime) -> bool:
        """Whether its Job is being deleted or one of its ranks has failed, and a pod still writes
        where the next attempt would."""
        if is_deleting(self.job):
            return bool(self.newest) and not self.is_over
        if len(self.ranks) == 1 or not (self.ends_itself or finished(self.job)):
            return False
        return any(not _has_ended(pod) and not _is_lost(pod, now) for pod in self.newest)


def rank_of(pod: Raw) -> int:
    text = label(pod, RANK)
    return int(text) if text.isdecimal() else 0


def _has_ended(pod: Raw) -> bool:
    phase = pod.get("status", {}).get("phase")
    return container_state(pod)[0] == "terminated" or phase in ("Failed", "Succeeded")


def _is_lost(pod: Raw, now: datetime) -> bool:
    # The time of a pod's deletion is that of the request and the pod's grace.
    return is_deleting(pod) and now > parse_time(pod["metadata"]["deletionTimestamp"]) + LOST
