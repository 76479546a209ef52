"""When a queued job is predicted to start: the claims to come, replayed over the live workers."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wan_runtime.serving.queue.rows import HALF_LIFE_SECONDS

TIE_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Place:
    position: int
    """1: the next to be claimed. 0: it does not wait."""
    starts_in_seconds: float | None
    """Predicted. None: no worker is ready, so nobody knows."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job, as the replay needs it."""

    id: str
    owner: str
    priority: int
    number: int
    seconds: float


def places(
    queued: Iterable[Waiting], spent: Mapping[str, float], busy_seconds: Sequence[float]
) -> dict[str, Place]:
    """Predicted place of each queued job, by its id.

    `spent`: seconds of work lately given to each owner. `busy_seconds`: for each ready worker, how
    long it is predicted to be busy yet.
    """
    lines = _lines(queued)
    free_at = list(busy_seconds)
    heapq.heapify(free_at)
    given = dict(spent)
    found: dict[str, Place] = {}
    for priority in sorted(lines, reverse=True):
        line = lines[priority]
        heads = [(given.get(owner, 0.0), jobs[-1].number, owner) for owner, jobs in line.items()]
        heapq.heapify(heads)
        while heads:
            owner = heapq.heappop(heads)[2]
            job = line[owner].pop()
            starts = heapq.heappop(free_at) if free_at else None
            found[job.id] = Place(len(found) + 1, starts)
            # What is given later fades later. Scaling it up now, instead of all else down then,
            # keeps the order and needs no time in the comparison.
            # Claims at one time still follow each other.
            start = (starts or 0.0) + TIE_SECONDS * len(found)
            given[owner] = given.get(owner, 0.0) + job.seconds * _weight(start)
            if starts is not None:
                heapq.heappush(free_at, starts + job.seconds)
            if line[owner]:
                heapq.heappush(heads, (given[owner], line[owner][-1].number, owner))
    return found


def _lines(queued: Iterable[Waiting]) -> dict[int, dict[str, list[Waiting]]]:
    """Queued jobs by priority and owner, the oldest last."""
    lines: dict[int, dict[str, list[Waiting]]] = {}
    for job in sorted(queued, key=lambda each: each.number, reverse=True):
        lines.setdefault(job.priority, {}).setdefault(job.owner, []).append(job)
    return lines


def _weight(seconds: float) -> float:
    """Weight of work given so many seconds from now: it doubles with each half-life. Bounded, as
    nobody waits for hundreds of half-lives."""
    return float(2.0 ** min(seconds / HALF_LIFE_SECONDS, 500))
