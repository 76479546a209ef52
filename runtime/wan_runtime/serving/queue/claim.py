"""How a worker gets a job: in the fair order, of those that it can render, settled for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

import asyncpg
from pydantic import ValidationError

from wan_runtime.contract.report import WorkerInfo
from wan_runtime.faults import described
from wan_runtime.rendering.order import Choices, Job, Problem, State, VideoOrder
from wan_runtime.serving.problems import Refusal
from wan_runtime.serving.queue import rollouts
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.reports import workers
from wan_runtime.serving.queue.rows import SPENT, job_of, notify, spend, written
from wan_runtime.serving.queue.work import Keeping, end

log = logging.getLogger(__name__)

LOCK = 0x77616E03
"""Key of the advisory lock that serializes the claims of a service, so that each claim sees the
work that the one before it charged to an owner."""
CHANGED = "the service was changed while the video waited: ask again"
FAIR_ORDER = f"jobs.priority desc, coalesce({SPENT}, 0), jobs.number"
"""Order of the queue: priority, then the owner with the least recent work, then age."""

_HAS = """exists (
    select from unnest({}::text[]) as words where strpos(jobs."order"::text, words) > 0
)"""
"""Whether an order has any of these words."""

Settle: TypeAlias = Callable[[Job], Job]
"""Returns a job with the order that a worker renders. Raises Refusal if it cannot render any."""


def as_it_is(job: Job) -> Job:
    """Settles nothing."""
    return job


@dataclass(frozen=True, slots=True)
class Claimant:
    """A worker that asks for a job."""

    name: str
    revision: str = ""
    lacking: frozenset[str] = frozenset()
    """Adapters that it cannot use."""
    sizes: frozenset[str] = frozenset()
    """Sizes that it has warmed up at; empty: it does not tell."""
    settle: Settle = as_it_is


@dataclass(frozen=True, slots=True)
class Left:
    """Words of orders that are left to others, who can render them."""

    adapters: list[str]
    """Adapters that the claimant lacks and others can use."""
    sizes: list[str]
    """Sizes that others have warmed up at, and the claimant has not."""
    unsized: list[str]
    """Adapters that the claimant can use, and none with such a size: what has both is not left, as
    each would leave it to the other."""

    @classmethod
    def of(cls, who: Claimant, them: Sequence[WorkerInfo], usable: Iterable[str]) -> Left:
        """`them`: others that get the same jobs. `usable`: adapters that the claimant can use."""
        ready = [each for each in them if each.ready]
        sized = [each for each in ready if who.sizes and {*each.seconds_per_clip} - who.sizes]
        theirs = {name for each in ready for name in each.adapters}
        others = {size for each in sized for size in each.seconds_per_clip} - who.sizes
        sides = [size.split("x") for size in sorted(others)]
        return cls(
            adapters=_named(who.lacking & theirs),
            sizes=[f'"size":{{"width":{width},"height":{height}}}' for width, height in sides],
            unsized=_named(frozenset(usable).difference(*(each.adapters for each in sized))),
        )

    def has(self, order: str) -> bool:
        """Whether an order is left, by its text."""
        adapters, sizes, unsized = (
            any(words in order for words in each)
            for each in (self.adapters, self.sizes, self.unsized)
        )
        return adapters or (sizes and not unsized)


def _named(adapters: frozenset[str]) -> list[str]:
    return [f'"name":"{name}"' for name in sorted(adapters)]


async def claim(
    connection: Connection, keeping: Keeping, who: Claimant, lease_seconds: float, token: UUID
) -> Job | None:
    """The next job in the fair order of those that the claimant's revision gets; the same one for
    the same token. What no revision at work can render, by the last of them to see it, fails."""
    service = keeping.service
    await connection.execute("select pg_advisory_xact_lock($1, hashtext($2))", LOCK, service)
    row = await connection.fetchrow(
        """
        select * from jobs
        where service = $1 and state = 'running' and worker = $2 and claim = $3
        """,
        service,
        who.name,
        token,
    )
    if row is not None:
        return job_of(row)
    job = await _next(connection, keeping, who)
    if job is None:
        return None
    row = await connection.fetchrow(
        """
        update jobs set state = 'running', worker = $2, claim = $3, attempts = attempts + 1,
            started_at = now(), lease_until = now() + make_interval(secs => $4), advance = null,
            revision = $5, "order" = $6, choices = $7, predicted_seconds = $8,
            asked = coalesce(asked, "order"),
            asked_seconds = coalesce(asked_seconds, predicted_seconds)
        where id = $1 returning *
        """,
        job.id,
        who.name,
        token,
        lease_seconds,
        who.revision,
        written(job.order),
        job.choices and written(job.choices),
        job.predicted_seconds,
    )
    assert row is not None
    await spend(connection, service, row["owner"], row["predicted_seconds"])
    await notify(connection, service, row["id"])
    return job_of(row)


async def _next(connection: Connection, keeping: Keeping, who: Claimant) -> Job | None:
    """The first in the fair order that this release understands and the claimant takes, settled;
    its row is locked."""
    service = keeping.service
    rollout = await rollouts.current(connection, service)
    mine = rollout.claimed_by(who.revision)
    known = await workers(connection, service)
    them = [
        each
        for each in known
        if each.name != who.name and rollout.claimed_by(each.revision) is mine
    ]
    usable = [name for each in known if each.name == who.name for name in each.adapters]
    left = Left.of(who, them, usable)
    passed_over: list[str] = []
    while True:
        row = await connection.fetchrow(
            f"""
            select jobs.* from jobs left join owners using (service, owner)
            where service = $1 and jobs.state = 'queued' and jobs.id <> all ($2::text[])
                and jobs.track = coalesce($3, jobs.track)
                -- As text, in which quotes of a prompt are escaped: reading it as JSON fails where
                -- a prompt has a \\u0000.
                and (refusals is not null or not {_HAS.format("$4")}
                    and (not {_HAS.format("$5")} or {_HAS.format("$6")}))
            order by {FAIR_ORDER} limit 1 for update of jobs skip locked
            """,
            service,
            passed_over,
            mine,
            left.adapters,
            left.sizes,
            left.unsized,
        )
        if row is None:
            return None
        job = await _taken(connection, keeping, row, who, them, usable)
        if job is not None:
            return job
        passed_over.append(row["id"])


async def _taken(
    connection: Connection,
    keeping: Keeping,
    row: asyncpg.Record,
    who: Claimant,
    them: Sequence[WorkerInfo],
    usable: Iterable[str],
) -> Job | None:
    """The job as the claimant renders it; None if it is left to others, or failed as nobody can
    render it."""
    try:
        VideoOrder.model_validate_json(row["order"])
        if row["choices"] is not None:
            Choices.model_validate_json(row["choices"])
    except ValidationError as error:
        # A newer gateway requests what this worker would leave out: a newer worker's job.
        log.warning("%s is left to another release: %s", row["id"], described(error))
        return None
    refusals: dict[str, dict[str, str]] = json.loads(row["refusals"] or "{}")
    # Those that refused it are nobody to leave it to.
    willing = [each for each in them if each.revision not in refusals]
    if refusals and Left.of(who, willing, usable).has(row["order"]):
        return None
    job = job_of(row)
    try:
        return who.settle(job)
    except Refusal as refusal:
        problem = Problem(code=refusal.code, message=refusal.message)
    is_known = who.revision in refusals
    refusals = {who.revision: problem.model_dump(), **refusals}
    if any(each.revision != who.revision and not each.stopping for each in willing):
        log.info("%s is left to workers of another revision: %s", job.id, problem.message)
        if not is_known:
            await connection.execute(
                "update jobs set refusals = $2 where id = $1", job.id, json.dumps(refusals)
            )
        return None
    problem = Problem.model_validate(refusals[await _newest(connection, keeping, refusals)])
    explained = problem.model_copy(update={"message": f"{problem.message}; {CHANGED}"})
    log.warning("%s can be rendered by no revision: %s", job.id, problem.message)
    await end(connection, keeping, row, State.FAILED, explained)
    return None


async def _newest(connection: Connection, keeping: Keeping, revisions: Iterable[str]) -> str:
    """The revision whose workers began last; the first, where none has any."""
    rows = await connection.fetch(
        """
        select coalesce(info ->> 'revision', '') as revision, min(began_at) as began from workers
        where service = $1 group by 1
        """,
        keeping.service,
    )
    began = {row["revision"]: row["began"] for row in rows}
    never = datetime.min.replace(tzinfo=UTC)
    return max(revisions, key=lambda each: began.get(each, never))
