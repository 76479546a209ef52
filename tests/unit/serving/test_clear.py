"""`wan-runtime clear`: what goes of a deleted service or of a failed run, and what stays."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from orders import claimed, rendered, sql, submitted
from postgres import Postgres
from running_gateway import service_spec
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.left import Left, LeftFolders, LeftQueue
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import InputError
from wan_runtime.serving import clear as clear_command
from wan_runtime.serving import remains
from wan_runtime.serving.queue.queue import Queue

Clear = Callable[..., Awaitable[None]]
NOW = datetime.now(UTC)
LATER, BEFORE = NOW + timedelta(days=1), NOW - timedelta(hours=1)


@pytest.fixture
def spec(server: ObjectStore) -> ServiceSpec:
    return service_spec(server, f"s{uuid4().hex[:12]}")


@pytest.fixture
def clear(postgres: Postgres, spec: ServiceSpec, credentials: None) -> Clear:
    """The pod's part for the service, whose gateways have been silent for long."""
    queue = LeftQueue(namespace="media", name=spec.name, uid=spec.uid, prefix=spec.prefix)
    store = Store.connect(spec.store)

    async def clear(*, silent: bool = True) -> None:
        if silent:
            text = "update services set seen_at = now() - interval '1 hour' where uid = $1"
            await sql(postgres.url(), text, spec.uid)
        await remains.clear(queue, postgres.url(), store)

    return clear


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


async def test_of_a_deleted_service(postgres: Postgres, spec: ServiceSpec, clear: Clear) -> None:
    store = Store.connect(spec.store)
    queue = await Queue.of(spec, postgres.url())
    again = await Queue.of(spec.model_copy(update={"uid": str(uuid4())}), postgres.url())
    theirs = await submitted(again)
    done = await submitted(queue)
    assert await queue.complete((await claimed(queue)).id, "w1", rendered())
    photo = f"{spec.prefix}/videos/waits/first-frame.png"
    waits = await submitted(queue, image=photo)
    await submitted(queue)
    runs = await claimed(queue, "w1")
    lost = f"{spec.prefix}/videos/no-job/first-frame.png"
    video = f"{spec.prefix}/videos/{done.id}/video.mp4"
    for key in (photo, lost, video):
        store.put_bytes(key, b"data")
    await clear()
    assert [await queue.get(each.id) for each in (waits, runs)] == [None, None]
    assert (await queue.heartbeat(runs.id, "w1", None, 30)).lost, "its worker stops"
    assert store.stat(photo) is None
    assert store.stat(lost) is None
    assert store.stat(video), "its retention is not over"
    await sql(postgres.url(), "update jobs set expires_at = now() where id = $1", done.id)
    await clear()
    assert store.stat(video) is None
    rows = "select from services where queue = $1"
    assert await sql(postgres.url(), rows, queue.name) == []
    await clear()
    assert await again.get(theirs.id), "of the service that was made again, nothing goes"
    for each in (queue, again):
        await each.close()


async def test_a_service_that_lives_keeps_everything(
    postgres: Postgres, spec: ServiceSpec, clear: Clear
) -> None:
    store = Store.connect(spec.store)
    queue = await Queue.of(spec, postgres.url())
    photo = f"{spec.prefix}/videos/waits/first-frame.png"
    waits = await submitted(queue, image=photo)
    store.put_bytes(photo, b"data")
    with pytest.raises(InputError, match="is still served: nothing is removed"):
        await clear(silent=False)
    alive = """
        insert into workers (service, name, ready, info, seen_at)
        values ($1, 'w1', true, '{}', now())
    """
    await sql(postgres.url(), alive, queue.name)
    with pytest.raises(InputError):
        await clear()
    assert await queue.get(waits.id)
    assert store.stat(photo)
    await queue.close()


async def test_a_service_that_comes_back_is_not_deleted_any_more(
    postgres: Postgres, spec: ServiceSpec, clear: Clear
) -> None:
    queue = await Queue.of(spec, postgres.url())
    kept = await submitted(queue)
    await queue.complete((await claimed(queue)).id, "w1", rendered())
    deleted = "select queue from services where queue = $1 and deleted_at is not null"
    for comes_back in (queue.tended, lambda: Queue.of(spec, postgres.url())):
        await clear()
        assert await sql(postgres.url(), deleted, queue.name)
        other = await comes_back()
        assert await sql(postgres.url(), deleted, queue.name) == []
    assert await queue.get(kept.id)
    for each in (queue, other):
        await each.close()


def test_of_a_run_its_checkpoints_go_and_its_weights_stay(
    spec: ServiceSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, run = Store.connect(spec.store), f"team/{spec.name}/5c1a7e00/train"
    kept = (f"{run}/manifest.json", f"{run}/checkpoints.txt", f"{run}2/checkpoints/a")
    gone = (f"{run}/checkpoints/step-1/manifest.json", f"{run}/best/a")
    for key in (*kept, *gone):
        store.put_bytes(key, b"data")
    folders = (f"{run}/checkpoints/", f"{run}/best/")

    def cleared(*, ended_at: datetime = LATER, due: datetime = BEFORE) -> int:
        removed = LeftFolders(keys=folders, ended_at=ended_at)
        left = Left(store=spec.store, due=due, folders=removed)
        monkeypatch.setenv("WAN_LEFT", left.model_dump_json(by_alias=True, exclude_none=True))
        return clear_command.run(Namespace())

    assert cleared(due=LATER) == ExitClass.INPUT
    assert "nothing is removed before" in caplog.text
    assert cleared(ended_at=BEFORE) == ExitClass.INPUT
    assert "is newer than its run: nothing is removed" in caplog.text
    assert all(store.stat(key) for key in (*kept, *gone))
    assert cleared() == ExitClass.DONE
    assert [store.stat(key) for key in gone] == [None, None]
    assert all(store.stat(key) for key in kept)


STORE = '{"store": {"endpoint": "x", "bucket": "b"}, "due": "2026-01-01T00:00:00Z"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        STORE + ', "folders": {"keys": ["all"], "endedAt": "2026-01-01T00:00:00Z"}}',
        STORE + ', "folders": {"keys": ["team/demo/"]}}',
    ],
)
def test_words_for_what_is_wrong(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WAN_LEFT", text)
    assert clear_command.run(Namespace()) == ExitClass.INPUT
    assert "WAN_LEFT does not fit this runtime: " in caplog.text
