"""What gateways do from time to time: leases, retention, rubbish, webhooks, figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orders import PREFIX, claimed, found, order, rendered, sql, submitted
from postgres import Postgres
from wan_runtime.rendering.order import Job, Problem, State
from wan_runtime.serving.queue import upkeep
from wan_runtime.serving.queue.queue import Queue

HOOK = "https://example.org/hook"


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of the tests has only just started."""
    monkeypatch.setattr(upkeep, "GRACE_SECONDS", 0)


async def expired(queue: Queue, worker: str = "w1") -> Job:
    """A job whose lease ran out."""
    await submitted(queue)
    return await claimed(queue, worker, lease_seconds=-1)


async def test_a_lease_that_ran_out_gives_the_job_to_another(queue: Queue) -> None:
    job = await expired(queue)
    held = await submitted(queue)
    await claimed(queue, "w2")
    assert await queue.reap() == 1
    assert await queue.reap() == 0
    assert (await found(queue, held.id)).state is State.RUNNING
    again = await claimed(queue, "w3")
    assert (again.id, again.attempts) == (job.id, 2)
    assert (await queue.heartbeat(job.id, "w1", None, 30)).lost
    assert not await queue.complete(job.id, "w1", rendered())
    assert await queue.complete(job.id, "w3", rendered())


async def test_the_last_lease_that_runs_out_fails_the_job(queue: Queue) -> None:
    job = await expired(queue)
    for worker in ("w2", "w3", "w4", "w5"):
        assert await queue.reap() == 1
        await claimed(queue, worker, lease_seconds=-1)
    assert await queue.reap() == 1
    failed = await found(queue, job.id)
    assert failed.problem == Problem(
        code="worker_lost",
        message="its worker was lost 5 times, at last: no sign of life from worker w5",
    )


async def test_a_late_heartbeat_saves_what_nobody_took(queue: Queue) -> None:
    job = await expired(queue)
    assert not (await queue.heartbeat(job.id, "w1", None, 30)).lost
    assert await queue.reap() == 0


async def test_a_server_that_just_started_takes_no_lease_away(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could renew it while it was away."""
    await expired(queue)
    monkeypatch.setattr(upkeep, "GRACE_SECONDS", 3600)
    assert await queue.reap() == 0


async def test_a_job_cancelled_or_deleted_under_a_lost_worker_is_not_done_again(
    queue: Queue,
) -> None:
    cancelled, deleted = await expired(queue), await expired(queue)
    await queue.cancel(cancelled.id, "ann")
    await queue.delete(deleted.id, "ann")
    assert await queue.reap() == 2
    assert (await found(queue, cancelled.id)).state is State.CANCELLED
    assert (await queue.report()).queue.queued == 0


async def test_the_photo_goes_with_the_end_and_the_folder_with_the_job(
    queue: Queue, service: str, postgres: Postgres
) -> None:
    job = await submitted(queue, image="photos/1.png")
    await claimed(queue)
    assert await queue.rubbish(10) == []
    await queue.complete(job.id, "w1", rendered())
    assert await queue.rubbish(10) == ["photos/1.png"]
    await queue.removed(["photos/1.png"])
    assert await queue.rubbish(10) == []
    assert await queue.expire() == 0
    await sql(
        postgres.url(), "update jobs set expires_at = now() - interval '1 s' where id = $1", job.id
    )
    assert await queue.expire() == 1
    assert await queue.get(job.id) is None
    assert await queue.rubbish(10) == [f"{PREFIX}/videos/{job.id}/"]


async def test_retention_is_counted_from_the_end(postgres: Postgres, service: str) -> None:
    queue = await Queue.open(postgres.url(), service, retention_seconds=90)
    job = await submitted(queue)
    await claimed(queue)
    await queue.fail(job.id, "w1", Problem(code="c", message="m"))
    ended = await found(queue, job.id)
    assert ended.completed_at is not None
    assert ended.expires_at is not None
    assert (ended.expires_at - ended.completed_at).total_seconds() == 90
    await queue.close()


async def test_a_deleted_job_leaves_nothing_behind(queue: Queue) -> None:
    job = await submitted(queue, image="photos/1.png", webhook=HOOK)
    await claimed(queue)
    deleted = await queue.delete(job.id, "ann")
    assert deleted is not None
    assert await queue.get(job.id) is None
    assert (await queue.page("ann", after=None, limit=5, order="asc")).jobs == ()
    assert await queue.delete(job.id, "ann") is None
    # Its worker still writes: its objects go when it has stopped.
    assert await queue.rubbish(10) == []
    assert (await queue.heartbeat(job.id, "w1", None, 30)).cancel_requested
    assert not await queue.complete(job.id, "w1", rendered())
    assert await queue.rubbish(10) == ["photos/1.png", f"{PREFIX}/videos/{job.id}/"]
    assert await queue.next_webhook() is None


async def test_what_a_lost_worker_uploaded_after_the_end_is_rubbish(queue: Queue) -> None:
    job = await expired(queue)
    await queue.cancel(job.id, "ann")
    await queue.reap()
    folder = f"{PREFIX}/videos/{job.id}/"
    await queue.removed([folder])
    assert not await queue.complete(job.id, "w1", rendered())
    assert await queue.rubbish(10) == [folder]
    await queue.delete(job.id, "ann")
    await queue.removed([folder])
    assert not await queue.complete(job.id, "w1", rendered())
    assert await queue.rubbish(10) == [folder]


async def test_each_end_is_told_once_it_is_told(queue: Queue) -> None:
    job = await submitted(queue, webhook=HOOK)
    await submitted(queue)
    await claimed(queue)
    await queue.hand_back(job.id, "w1", "drained", counts=False)
    await claimed(queue)
    assert await queue.next_webhook() is None
    await queue.complete(job.id, "w1", rendered())
    webhook = await queue.next_webhook()
    assert webhook is not None
    assert (webhook.url, webhook.job, webhook.attempts) == (HOOK, await found(queue, job.id), 1)
    # Another gateway doesn't send it meanwhile.
    assert await queue.next_webhook() is None
    await queue.undelivered(webhook, "status 500", 0)
    failed = await found(queue, job.id)
    again = await queue.next_webhook()
    assert again == replace(webhook, attempts=2, job=failed)
    assert failed.delivery is not None
    assert (failed.delivery.attempts, failed.delivery.failure) == (1, "status 500")
    assert failed.delivery.next_at == failed.delivery.failed_at
    await queue.undelivered(again, "status 502", 3600)
    assert await queue.next_webhook() is None
    await queue.delivered(replace(again, job=await found(queue, job.id)))
    delivered = (await found(queue, job.id)).delivery
    assert delivered is not None
    assert delivered.delivered_at is not None
    assert (delivered.attempts, delivered.failure, delivered.next_at) == (2, "status 502", None)
    # What is said of it again, or too late, changes nothing.
    await queue.undelivered(webhook, "status 504", 0)
    assert await queue.next_webhook() is None
    assert (await found(queue, job.id)).delivery == delivered


async def test_a_webhook_that_is_given_up_says_so(queue: Queue) -> None:
    job = await submitted(queue, webhook=HOOK)
    await queue.cancel(job.id, "ann")
    webhook = await queue.next_webhook()
    assert webhook is not None
    await queue.undelivered(webhook, "status 500", None)
    assert await queue.next_webhook() is None
    delivery = (await found(queue, job.id)).delivery
    assert delivery is not None
    assert (delivery.delivered_at, delivery.next_at, delivery.attempts) == (None, None, 1)


async def test_a_key_is_forgotten_after_a_day(
    queue: Queue, service: str, postgres: Postgres
) -> None:
    async def ask(digest: str) -> str:
        answer = await queue.submit(
            order(),
            owner="ann",
            predicted_seconds=1,
            limit_seconds=1e9,
            idempotency_key="k",
            request_digest=digest,
        )
        return answer.job.id

    first = await ask("d1")
    statement = "update idempotency_keys set expires_at = now() - interval '1 s' where service = $1"
    await sql(postgres.url(), statement, service)
    second = await ask("d2")
    assert second != first
    assert await ask("d2") == second
    await sql(postgres.url(), statement, service)
    await queue.expire()
    rows = await sql(postgres.url(), "select key from idempotency_keys where service = $1", service)
    assert rows == []
