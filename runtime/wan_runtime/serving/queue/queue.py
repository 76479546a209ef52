"""The durable queue: jobs and all that changes with them, in PostgreSQL.

Every call is one transaction and may be repeated; it waits for a server that restarts, up to the
patience, then raises QueueAway. Times are the database's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import TypeVar
from uuid import uuid4

from wan_runtime.contract.report import ServiceReport, WorkerInfo
from wan_runtime.contract.rollout import Rollout
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.rendering.order import (
    Advance,
    Choices,
    Job,
    Problem,
    Rendered,
    State,
    VideoOrder,
)
from wan_runtime.serving.queue import (
    owned,
    remains,
    reports,
    rollouts,
    services,
    upkeep,
    work,
    workers,
)
from wan_runtime.serving.queue.claim import Claimant, Settle, as_it_is, claim
from wan_runtime.serving.queue.database import Connection, Database
from wan_runtime.serving.queue.events import Events
from wan_runtime.serving.queue.opening import opened
from wan_runtime.serving.queue.owned import Direction, Page
from wan_runtime.serving.queue.places import Place, Waiting
from wan_runtime.serving.queue.remains import Remains
from wan_runtime.serving.queue.rows import job_of
from wan_runtime.serving.queue.services import Identity
from wan_runtime.serving.queue.submit import Submission, Submitted, find_earlier, submit
from wan_runtime.serving.queue.upkeep import Webhook
from wan_runtime.serving.queue.work import Beat, Keeping
from wan_runtime.wait import within

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 5.0
"""How late a change is seen whose notification was lost."""
PLACES_SECONDS = 1.0
"""How old predicted places may be: one replay serves all who ask."""
RETENTION_SECONDS = 7 * 86400.0

Result = TypeVar("Result")


class Queue:
    """Queue of one service's jobs."""

    def __init__(self, database: Database, keeping: Keeping) -> None:
        self._database = database
        self._keeping = keeping
        self._service = keeping.service
        self._events = Events(database, keeping.service)
        self._places: dict[str, Place] = {}
        self._places_at = float("-inf")
        self._placing = asyncio.Lock()

    @property
    def name(self) -> str:
        """Name of the queue, by which its rows say whose they are."""
        return self._service

    @classmethod
    async def open(
        cls,
        url: str,
        service: str,
        *,
        prefix: str = "",
        retention_seconds: float = RETENTION_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Queue:
        """Brings the tables up to date.

        `service`: name of the queue; several services share a database. `prefix`:
        ServiceSpec.prefix, of its keys in the bucket. `retention_seconds`: a job goes this long
        after its end. Raises SchemaNewer, QueueAway.
        """
        database, _ = await opened(url, patience_seconds, None)
        return cls(database, Keeping(service, prefix.strip("/"), retention_seconds))

    @classmethod
    async def of(
        cls,
        service: ServiceSpec,
        url: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        tables_seconds: float | None = None,
    ) -> Queue:
        """As `open`, with what the service says. The queue is its own by uid: another service made
        under its name gets another. `tables_seconds`: as of `opened`."""
        identity = Identity.of(service)
        database, queue = await opened(url, patience_seconds, identity, tables_seconds)
        retention = service.results.retention_seconds
        return cls(database, Keeping(queue, service.prefix, retention))

    async def close(self) -> None:
        """Ends all watching; calls under way fail."""
        await self._events.close()
        self._database.close()

    # Gateways: what owners ask for

    async def submit(
        self,
        order: VideoOrder,
        *,
        owner: str,
        predicted_seconds: float,
        limit_seconds: float,
        priority: int = 0,
        idempotency_key: str | None = None,
        request_digest: str = "",
        owner_limit: int | None = None,
        remixed_from: str | None = None,
        webhook: str | None = None,
        user: str | None = None,
        job_id: str | None = None,
        choices: Choices | None = None,
    ) -> Submitted:
        """A new job, or the one that the same idempotency key made within the last day.

        `choices`: by which the worker that renders it settles the order anew. `limit_seconds`:
        predicted work that may wait; an empty queue takes a job of any length.
        `owner_limit`: unfinished jobs that the owner may have. Raises QueueFull, OwnerFull,
        KeyReused, and ValueError for a `job_id` that is taken.
        """
        wanted = Submission(
            service=self._service,
            job_id=job_id or new_job_id(),
            order=order,
            choices=choices,
            owner=owner,
            predicted_seconds=predicted_seconds,
            priority=priority,
            idempotency_key=idempotency_key,
            request_digest=request_digest,
            limit_seconds=limit_seconds,
            owner_limit=owner_limit,
            remixed_from=remixed_from,
            webhook=webhook,
            user=user,
        )
        return await self._do("submit", lambda each: submit(each, wanted))

    async def earlier(self, owner: str, key: str | None, digest: str) -> Job | None:
        """The job that `submit` would answer with for this idempotency key. Raises KeyReused."""
        return await self._do(
            "earlier", lambda each: find_earlier(each, self._service, owner, key, digest)
        )

    async def get(self, job_id: str, owner: str | None = None) -> Job | None:
        """None: unknown, deleted, or another owner's."""
        row = await self._do("get", lambda each: owned.get(each, self._service, job_id, owner))
        return None if row is None else job_of(row)

    async def page(self, owner: str, *, after: str | None, limit: int, order: Direction) -> Page:
        """Jobs by age from the one after `after`; "desc": the newest first. Raises AfterUnknown."""
        return await self._do(
            "page", lambda each: owned.page(each, self._service, owner, after, limit, order)
        )

    async def place(self, job_id: str) -> Place:
        """In the order in which jobs are claimed. Position 0: it does not wait."""
        clock = asyncio.get_running_loop().time
        async with self._placing:
            stale = clock() - self._places_at > PLACES_SECONDS
            if stale or job_id not in self._places:
                self._places = await self._do(
                    "place", lambda each: workers.all_places(each, self._service)
                )
                self._places_at = clock()
            return self._places.setdefault(job_id, Place(0, 0.0))

    async def place_of_new(self, owner: str, *, seconds: float, priority: int = 0) -> Place:
        """Place that a job of so many predicted seconds would have if it were submitted now."""
        new = Waiting("new", owner, priority, sys.maxsize, seconds)
        found = await self._do(
            "place of new", lambda each: workers.all_places(each, self._service, new)
        )
        return found[new.id]

    async def cancel(self, job_id: str, owner: str) -> Job | None:
        """The job as it is then: a queued one is cancelled, of a running one cancel_requested is
        set, a final one stays. None: as get."""
        return await self._do(
            "cancel", lambda each: owned.cancel(each, self._keeping, job_id, owner)
        )

    async def delete(self, job_id: str, owner: str) -> Job | None:
        """The job as it was; nobody sees it from now on, and its objects become rubbish, those of
        a running one when its worker has stopped. None: as get."""
        seen: list[Job] = []

        async def work(connection: Connection) -> Job | None:
            job = await owned.delete(connection, self._keeping, job_id, owner)
            seen.extend([job] if job else [])
            return seen[0] if seen else None

        return await self._do("delete", work)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """The job now and after each change, to its end or removal."""
        last: Job | None = None
        with self._events.subscribe(job_id) as changed:
            while True:
                changed.clear()
                job = await self.get(job_id)
                if job is None:
                    return
                if job != last:
                    yield job
                last = job
                if job.state.final:
                    return
                await within(POLL_SECONDS, changed)

    # Workers

    async def alive(self, info: WorkerInfo) -> None:
        """To be said every few seconds: predictions count the ready workers."""
        await self._do("alive", lambda each: workers.alive(each, self._service, info))

    async def gone(self, worker: str) -> None:
        """The worker ends."""
        await self._do("gone", lambda each: workers.gone(each, self._service, worker))

    async def claim(
        self,
        worker: str,
        lease_seconds: float,
        revision: str = "",
        lacking: frozenset[str] = frozenset(),
        *,
        sizes: frozenset[str] = frozenset(),
        settle: Settle = as_it_is,
    ) -> Job | None:
        """The next job: by priority, then the owner with least work in hand and of late, then age.

        While there is a canary, workers of its `revision` get the jobs of its track alone, and all
        others the rest. Left to others that can render them are jobs with adapters that this worker
        is `lacking` and of other `sizes` than its own; to other revisions, what `settle` refuses. A
        job that all have refused fails, by the refusal of the newest. `worker` must be unique to
        the process, not only to its pod. It may get a job again whose lease it had lost.
        """
        token, who = uuid4(), Claimant(worker, revision, lacking, sizes, settle)
        self._events.claimable.clear()
        return await self._do(
            "claim", lambda each: claim(each, self._keeping, who, lease_seconds, token)
        )

    async def wait(self, seconds: float) -> None:
        """Until a job may have come since the last claim, or the time is over."""
        await within(seconds, self._events.claimable)

    async def heartbeat(
        self, job_id: str, worker: str, advance: Advance | None, lease_seconds: float
    ) -> Beat:
        """Renews the lease; None as `advance` leaves what was reported before."""
        return await self._do(
            "heartbeat",
            lambda each: work.heartbeat(
                each, self._service, job_id, worker, advance, lease_seconds
            ),
        )

    async def complete(self, job_id: str, worker: str, rendered: Rendered) -> bool:
        """False: lost or deleted meanwhile. The worker removes nothing: what no job owns is put on
        the rubbish list here."""
        return await self._finish(job_id, worker, State.COMPLETED, rendered)

    async def fail(self, job_id: str, worker: str, problem: Problem) -> bool:
        """False: as complete."""
        return await self._finish(job_id, worker, State.FAILED, problem)

    async def cancelled(self, job_id: str, worker: str) -> bool:
        """False: as complete."""
        return await self._finish(job_id, worker, State.CANCELLED)

    async def hand_back(self, job_id: str, worker: str, reason: str, *, counts: bool) -> None:
        """Back to where it stood in the queue. `counts`: as one of its five attempts, after which
        it fails as worker_lost with the reason. Does nothing if the lease is another's."""
        await self._do(
            "hand_back",
            lambda each: work.give_back(each, self._keeping, job_id, worker, reason, counts=counts),
        )

    # Upkeep, by any gateway at any time

    async def reap(self) -> int:
        """Hands back jobs whose lease ran out, as counting attempts. How many."""
        return await self._repeat("reap", lambda each: upkeep.reap(each, self._keeping))

    async def expire(self) -> int:
        """Removes jobs whose retention is over, and forgets old keys and workers. How many jobs."""
        await self._do("forget", lambda each: upkeep.forget(each, self._service))
        return await self._repeat("expire", lambda each: upkeep.expire(each, self._keeping))

    async def rubbish(self, limit: int) -> list[str]:
        """Keys to remove from the bucket, the oldest first. One that ends in a slash is a folder,
        with all below it."""
        return await self._do("rubbish", lambda each: upkeep.rubbish(each, self._service, limit))

    async def removed(self, keys: list[str]) -> None:
        """They are gone from the bucket."""
        await self._do("removed", lambda each: upkeep.removed(each, self._service, keys))

    async def existing(self, job_ids: Collection[str]) -> set[str]:
        """Those of the ids that jobs have."""
        return await self._do(
            "existing", lambda each: workers.existing(each, self._service, job_ids)
        )

    async def owners(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Owners by the ids of API keys, for those that differ. `ids`: of the keys by name."""
        return await self._do("owners", lambda each: services.owners(each, self._service, ids))

    async def tended(self) -> None:
        """Somebody keeps the retention of this service's videos."""
        await self._do("tended", lambda each: services.seen(each, self._service))

    async def untended(self) -> list[Remains]:
        """Services with objects in the same bucket whose retention nobody keeps."""
        found = await self._do("untended", lambda each: remains.untended(each, self._service))
        return [Remains(self._database, keeping) for keeping in found]

    async def completed(self, limit: int) -> list[Job]:
        """The jobs that completed last, newest first."""
        return await self._do(
            "completed", lambda each: workers.completed(each, self._service, limit)
        )

    async def roll_out(self, rollout: Rollout) -> bool:
        """From now on. Jobs that a withdrawn canary leaves are anybody's. False: a later one is at
        work and stays."""
        return await self._do("roll_out", lambda each: rollouts.store(each, self._service, rollout))

    async def report(self, mounted: Rollout | None = None) -> ServiceReport:
        """For the operator and metrics, with `age_seconds` 0. `mounted`: as of `reports.report`."""
        return await self._do("report", lambda each: reports.report(each, self._service, mounted))

    async def reach(self) -> None:
        """Does nothing, if the database answers."""
        await self._do("reach", lambda each: each.execute("select 1"))

    async def next_webhook(self) -> Webhook | None:
        """Webhook of a job that ended, given to one caller at a time; due again
        after a minute unless reported on. Delivered at least once."""
        return await self._do("next_webhook", lambda each: upkeep.next_webhook(each, self._service))

    async def delivered(self, webhook: Webhook) -> None:
        """Its receiver took it."""
        await self._do("delivered", lambda each: upkeep.delivered(each, webhook))

    async def undelivered(self, webhook: Webhook, failure: str, again_in: float | None) -> None:
        """Its receiver did not take it. `again_in`: seconds until it is due again; None: never."""
        await self._do(
            "undelivered", lambda each: upkeep.undelivered(each, webhook, failure, again_in)
        )

    async def _finish(
        self, job_id: str, worker: str, state: State, result: Rendered | Problem | None = None
    ) -> bool:
        return await self._do(
            state.value,
            lambda each: work.finish(each, self._keeping, job_id, worker, state, result),
        )

    async def _repeat(self, what: str, step: Callable[[Connection], Awaitable[int]]) -> int:
        """In one transaction after the other, so that no two processes wait for each other's
        rows."""
        total = 0
        while done := await self._do(what, step):
            total += done
        return total

    async def _do(self, what: str, step: Callable[[Connection], Awaitable[Result]]) -> Result:
        return await self._database.transact(what, step)


def new_job_id() -> str:
    """`video_` and 32 hexadecimal digits."""
    return f"video_{uuid4().hex}"
