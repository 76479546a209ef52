"""A random walk over all that owners, workers and upkeep do, with PostgreSQL killed at any moment,
beside a model that says what each call must answer: kills must not show."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import asyncpg
import pytest

from orders import PREFIX, order, rendered, sql
from postgres import Postgres
from wan_runtime.rendering.order import Problem, State
from wan_runtime.serving.queue import upkeep, work
from wan_runtime.serving.queue.errors import KeyReused
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.queue.work import MAX_ATTEMPTS

STEPS = 250
KILL_CHANCE = 0.04
OWNERS = ("ann", "bob", "cyd")
WORKERS = ("w1", "w2", "w3")
PROBLEM = Problem(code="out_of_memory", message="too long")

Answer = TypeVar("Answer")


@dataclass
class Modelled:
    """What must be true of a job."""

    number: int
    owner: str
    priority: int
    webhook: bool
    state: State = State.QUEUED
    worker: str | None = None
    attempts: int = 0
    cancel_requested: bool = False
    deleted: bool = False


@dataclass
class Walk:
    queue: Queue
    postgres: Postgres
    service: str
    chance: random.Random
    jobs: dict[str, Modelled] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """(owner, key) -> (job, digest)."""
    told: list[str] = field(default_factory=list)
    kills: int = 0

    async def step(self) -> None:
        """One call by anybody."""
        calls = {
            self.submit: 6,
            self.claim: 6,
            self.beat: 2,
            self.finish: 5,
            self.hand_back: 2,
            self.lose_worker: 2,
            self.cancel: 1,
            self.delete: 1,
            self.tell: 2,
        }
        await self.chance.choices(list(calls), list(calls.values()))[0]()

    async def call(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, though the server may be killed at some moment of the call."""
        if self.chance.random() >= KILL_CHANCE:
            return await work()
        running = asyncio.ensure_future(work())
        await asyncio.wait([running], timeout=self.chance.uniform(0, 0.006))
        self.postgres.kill()
        self.kills += 1
        await asyncio.to_thread(self.postgres.start)
        return await running

    async def submit(self) -> None:
        owner, priority = self.chance.choice(OWNERS), self.chance.choice([0, 0, 1])
        key = self.chance.choice([None, None, "k1", "k2", "k3"])
        digest = self.chance.choice(["d1", "d1", "d2"])
        webhook = self.chance.choice([None, "https://example.org/hook"])
        job_id = f"video_{self.chance.randbytes(16).hex()}"
        earlier, first_digest = self.keys.get((owner, key or ""), ("", ""))
        known = bool(earlier) and not self.jobs[earlier].deleted
        submitting = self.call(
            lambda: self.queue.submit(
                order(),
                owner=owner,
                predicted_seconds=60,
                limit_seconds=1e9,
                priority=priority,
                idempotency_key=key,
                request_digest=digest,
                webhook=webhook,
                job_id=job_id,
            )
        )
        if known and first_digest != digest:
            with pytest.raises(KeyReused):
                await submitting
            return
        answer = await submitting
        assert (answer.job.id, answer.repeated) == (earlier if known else job_id, known)
        if known:
            return
        self.jobs[job_id] = Modelled(len(self.jobs), owner, priority, webhook is not None)
        if key:
            self.keys[owner, key] = job_id, digest

    async def claim(self) -> None:
        worker = self.chance.choice(WORKERS)
        job = await self.call(lambda: self.queue.claim(worker, 3600))
        queued = {i: each for i, each in self.jobs.items() if each.state is State.QUEUED}
        if job is None:
            assert not queued
            return
        mine = queued[job.id]
        assert mine.priority == max(each.priority for each in queued.values())
        ahead = [
            each
            for each in queued.values()
            if (each.owner, each.priority) == (mine.owner, mine.priority)
        ]
        assert mine.number == min(each.number for each in ahead)
        mine.state, mine.worker, mine.attempts = State.RUNNING, worker, mine.attempts + 1
        assert job.attempts == mine.attempts

    async def beat(self) -> None:
        job_id, worker = self.any_job(), self.chance.choice(WORKERS)
        if job_id is None:
            return
        beat = await self.call(lambda: self.queue.heartbeat(job_id, worker, None, 3600))
        mine = self.jobs[job_id]
        assert beat.lost != self.holds(job_id, worker)
        assert beat.cancel_requested == (not beat.lost and mine.cancel_requested)

    async def finish(self) -> None:
        job_id, worker = self.any_job(), self.chance.choice(WORKERS)
        if job_id is None:
            return
        state = self.chance.choice(
            [State.COMPLETED, State.COMPLETED, State.FAILED, State.CANCELLED]
        )
        ways: dict[State, Callable[[], Awaitable[bool]]] = {
            State.COMPLETED: lambda: self.queue.complete(job_id, worker, rendered()),
            State.FAILED: lambda: self.queue.fail(job_id, worker, PROBLEM),
            State.CANCELLED: lambda: self.queue.cancelled(job_id, worker),
        }
        mine, held = self.jobs[job_id], self.holds(job_id, worker)
        again = (mine.state, mine.worker) == (state, worker)
        answer = await self.call(ways[state])
        assert answer == ((held or again) and not mine.deleted)
        if held:
            mine.state = state

    async def hand_back(self) -> None:
        job_id, worker = self.any_job(), self.chance.choice(WORKERS)
        counts = self.chance.random() < 0.5
        if job_id is None:
            return
        await self.call(lambda: self.queue.hand_back(job_id, worker, "drained", counts=counts))
        if self.holds(job_id, worker):
            self.returned(job_id, counts)

    async def lose_worker(self) -> None:
        """A worker ends without a word, and its leases run out."""
        worker = self.chance.choice(WORKERS)
        await sql(
            self.postgres.url(),
            """
            update jobs set lease_until = now() - interval '1 s'
            where service = $1 and worker = $2 and state = 'running'
            """,
            self.service,
            worker,
        )
        lost = [job_id for job_id in self.jobs if self.holds(job_id, worker)]
        await self.call(self.queue.reap)
        for job_id in lost:
            self.returned(job_id, counts=True)

    async def cancel(self) -> None:
        job_id = self.any_job()
        if job_id is None:
            return
        mine = self.jobs[job_id]
        job = await self.call(lambda: self.queue.cancel(job_id, mine.owner))
        if mine.deleted:
            assert job is None
            return
        if mine.state is State.QUEUED:
            mine.state = State.CANCELLED
        elif mine.state is State.RUNNING:
            mine.cancel_requested = True
        assert job is not None
        assert (job.state, job.cancel_requested) == (mine.state, mine.cancel_requested)

    async def delete(self) -> None:
        job_id = self.any_job()
        if job_id is None:
            return
        mine = self.jobs[job_id]
        job = await self.call(lambda: self.queue.delete(job_id, mine.owner))
        assert (job is None) == mine.deleted
        mine.deleted = True
        if mine.state is State.RUNNING:
            mine.cancel_requested = True
        elif mine.state is State.QUEUED:
            mine.state = State.CANCELLED

    async def tell(self) -> None:
        """One webhook."""
        webhook = await self.call(self.queue.next_webhook)
        if webhook is None:
            return
        await self.call(lambda: self.queue.delivered(webhook))
        assert webhook.job.state is self.jobs[webhook.job.id].state
        self.told.append(webhook.job.id)

    def any_job(self) -> str | None:
        """Of those that run, mostly."""
        running = [each for each, job in self.jobs.items() if job.state is State.RUNNING]
        pool = running if running and self.chance.random() < 0.8 else list(self.jobs)
        return self.chance.choice(pool) if pool else None

    def holds(self, job_id: str, worker: str) -> bool:
        mine = self.jobs[job_id]
        return mine.state is State.RUNNING and mine.worker == worker

    def returned(self, job_id: str, counts: bool) -> None:
        mine = self.jobs[job_id]
        if mine.cancel_requested:
            mine.state = State.CANCELLED
        elif counts and mine.attempts == MAX_ATTEMPTS:
            mine.state = State.FAILED
        else:
            mine.state, mine.worker = State.QUEUED, None
            mine.attempts -= 0 if counts else 1

    async def check(self) -> None:
        """The tables hold what the model says, no more and no less."""
        rows = await self.rows("select id, state, deleted from jobs where service = $1")
        assert {(row["id"], row["state"], row["deleted"]) for row in rows} == {
            (job_id, mine.state.value, mine.deleted)
            for job_id, mine in self.jobs.items()
            if mine.state is State.RUNNING or not mine.deleted
        }
        rows = await self.rows("select key from rubbish where service = $1")
        assert {row["key"] for row in rows} == {
            f"{PREFIX}/videos/{job_id}/"
            for job_id, mine in self.jobs.items()
            if mine.state in (State.FAILED, State.CANCELLED)
            or (mine.deleted and mine.state is State.COMPLETED)
        }
        # Of those taken, the answer may have been lost: they are due again later.
        rows = await self.rows("update webhooks set next_at = now() where service = $1 returning *")
        for _ in rows:
            await self.tell()
        due = {i for i, each in self.jobs.items() if each.webhook and each.state.final}
        kept = {i for i, each in self.jobs.items() if not each.deleted}
        assert set(self.told) <= due
        assert due & kept <= set(self.told)

    async def rows(self, statement: str) -> list[asyncpg.Record]:
        return await sql(self.postgres.url(), statement, self.service)


@pytest.mark.parametrize("seed", range(3))
async def test_kills_of_the_server_do_not_show(
    queue: Queue, postgres: Postgres, service: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "GRACE_SECONDS", 0)
    walk = Walk(queue, postgres, service, random.Random(seed))
    for _ in range(STEPS):
        await walk.step()
    assert walk.kills >= 3
    await walk.check()


async def test_no_accepted_job_is_lost_or_completed_twice(
    postgres: Postgres, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways and workers at once, some of which die, while the server is killed five times."""
    monkeypatch.setattr(upkeep, "GRACE_SECONDS", 0)
    chance = random.Random(4)
    accepted: set[str] = set()
    completed: Counter[str] = Counter()
    queues = [await Queue.open(postgres.url(), service) for _ in range(3)]

    async def client(owner: str) -> None:
        for number in range(20):
            queue = chance.choice(queues)
            answer = await queue.submit(
                order(),
                owner=owner,
                predicted_seconds=1,
                limit_seconds=1e9,
                idempotency_key=str(number),
            )
            assert answer.job.id not in accepted
            accepted.add(answer.job.id)

    async def worker(name: str) -> None:
        while accepted != set(completed) or len(accepted) < 60:
            queue, me = chance.choice(queues), f"{name}-{chance.randbytes(4).hex()}"
            await queue.reap()
            job = await queue.claim(me, 0.5)
            if job is None:
                await queue.wait(0.1)
            elif chance.random() < 0.2:
                continue  # dies without a word
            elif await queue.complete(job.id, me, rendered()):
                completed[job.id] += 1

    async def killer() -> None:
        for _ in range(5):
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            postgres.kill()
            await asyncio.to_thread(postgres.start)

    monkeypatch.setattr(work, "MAX_ATTEMPTS", 100)
    async with asyncio.TaskGroup() as group:
        for each in [killer(), *map(client, OWNERS), *map(worker, WORKERS)]:
            group.create_task(each)
    assert completed == dict.fromkeys(accepted, 1)
    rows = await sql(postgres.url(), "select id, state from jobs where service = $1", service)
    assert {(row["id"], row["state"]) for row in rows} == {(i, "completed") for i in accepted}
    for queue in queues:
        await queue.close()
