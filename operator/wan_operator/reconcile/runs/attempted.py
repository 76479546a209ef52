"""An attempt of a step as the cluster shows it: its Job, and the Job's pods by rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from wan_operator.reconcile.observed import (
    Raw,
    completions,
    container_state,
    controller_uid,
    created,
    is_deleting,
    label,
    parse_time,
)

RANK = "batch.kubernetes.io/job-completion-index"
"""Label of the pods of an Indexed Job. Without it a pod is its Job's only one, of rank 0."""


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
    def is_stopping(self) -> bool:
        """Whether its Job is being deleted, and a pod still writes where the next attempt would."""
        return is_deleting(self.job) and bool(self.newest) and not self.is_over


def rank_of(pod: Raw) -> int:
    text = label(pod, RANK)
    return int(text) if text.isdecimal() else 0


def _has_ended(pod: Raw) -> bool:
    phase = pod.get("status", {}).get("phase")
    return container_state(pod)[0] == "terminated" or phase in ("Failed", "Succeeded")
