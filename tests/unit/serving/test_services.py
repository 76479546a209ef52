"""Rows belong to a service's uid and to the API key itself, not to names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from orders import claimed, order, rendered, sql, submitted
from postgres import Postgres
from running_gateway import KEYS, RunningGateway, service_spec
from unit.serving.test_gateway import ask
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.rendering.order import State
from wan_runtime.serving.gateway.predict import Predictor
from wan_runtime.serving.gateway.upkeep import Upkeep
from wan_runtime.serving.planned import Workers
from wan_runtime.serving.queue.queue import Queue

pytest_plugins = ["gateway_fixtures"]
Open = Callable[..., Any]


@pytest.fixture
def spec(server: ObjectStore) -> ServiceSpec:
    """A service that no other test has."""
    return service_spec(server, f"s{uuid4().hex[:12]}")


@pytest_asyncio.fixture
async def opening(postgres: Postgres, spec: ServiceSpec) -> AsyncIterator[Open]:
    """`await opening(**changes of the spec)`: its queue."""
    queues = []

    async def made(url: str = postgres.url(), **change: Any) -> Queue:
        queue = await Queue.of(spec.model_copy(update=change), url)
        queues.append(queue)
        return queue

    yield made
    for queue in queues:
        await queue.close()


async def keyed(queue: Queue, key: str) -> tuple[str, bool]:
    """(job, whether it was there before) of a request with an idempotency key."""
    answer = await queue.submit(
        order(), owner="ann", predicted_seconds=1, limit_seconds=1e9, idempotency_key=key
    )
    return answer.job.id, answer.repeated


@pytest.mark.parametrize("change", [{"uid": str(uuid4())}, {"cluster": "west"}])
async def test_a_service_sees_nothing_of_another_of_its_name(
    opening: Open, change: dict[str, str]
) -> None:
    """One made again; or that of another cluster, made from a copy of this one."""
    first, again, other = await opening(), await opening(), await opening(**change)
    job_id, _ = await keyed(first, "once")
    assert await keyed(again, "once") == (job_id, True)
    assert await other.get(job_id) is None
    assert await other.claim("w1", 30) is None
    assert (await other.report()).queue.queued == 0
    assert (await keyed(other, "once"))[1] is False


def test_another_cluster_writes_elsewhere(spec: ServiceSpec) -> None:
    other = spec.model_copy(update={"cluster": "west"})
    assert other.prefix == spec.prefix.replace("serving/", "serving/west/")


def test_videos_stay_with_their_key_when_it_is_renamed(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    folder = tmp_path / gateway.service.name
    with gateway.http() as http:
        made = ask(http).json()["id"]
        (folder / "renamed").write_text(KEYS["app"])
        (folder / "app").write_text("wan-key-new")
        assert [each["id"] for each in http.get("/v1/videos").json()["data"]] == [made]
        fresh = http.get("/v1/videos", headers={"Authorization": "Bearer wan-key-new"})
        assert fresh.json()["data"] == []


@pytest_asyncio.fixture
async def used(postgres: Postgres) -> str:
    """Database that the release before this one has worked with."""
    url = postgres.create(f"u{uuid4().hex}")
    await (await Queue.open(url, "")).close()
    await sql(url, "update migrations set applied_at = now() - interval '1 day' where number = 1")
    return url


def picture(spec: ServiceSpec, job: str) -> str:
    """Key of a photo of a service."""
    return f"{spec.prefix}/videos/{job}/first-frame.png"


async def test_pods_of_both_releases_work_on_one_queue(
    opening: Open, used: str, spec: ServiceSpec
) -> None:
    old = await Queue.open(used, f"media/{spec.name}", prefix=spec.prefix)
    new = await opening(used)
    from_old, from_new = await keyed(old, "a"), await keyed(new, "b")
    assert await keyed(new, "a") == (from_old[0], True)
    assert await keyed(old, "b") == (from_new[0], True)
    for worker, gateway in ((new, old), (old, new)):
        job = await claimed(worker)
        assert await worker.complete(job.id, "w1", rendered())
        seen = await gateway.get(job.id, "ann")
        assert seen is not None
        assert seen.state is State.COMPLETED
    assert await new.claim("w1", 30) is None
    await old.close()


async def test_what_the_release_before_left_of_another_service_is_set_aside(
    opening: Open, used: str, spec: ServiceSpec
) -> None:
    gone = spec.model_copy(update={"uid": "9" * 8 + str(uuid4())[8:]})
    old = await Queue.open(used, f"media/{spec.name}")
    theirs = await submitted(old, image=picture(gone, "1"))
    mine = await submitted(old, image=picture(spec, "2"))
    await old.cancel((await submitted(old, image=picture(gone, "3"))).id, "ann")
    await old.close()
    queue = await opening(used)
    assert await queue.get(theirs.id) is None
    assert (await claimed(queue)).id == mine.id
    assert await queue.claim("w1", 30) is None
    assert picture(gone, "3") not in await queue.rubbish(10)
    # It lives after all, in another cluster, and has now come to this release.
    other = await opening(used, uid=gone.uid)
    assert (await claimed(other)).id == theirs.id
    assert await other.get(mine.id) is None
    assert picture(gone, "3") in await other.rubbish(10)
    assert await other.expire() == 0
    third = await opening(used, uid=str(uuid4()))
    assert (await third.report()).queue.running == 0


async def test_names_of_keys_count_once(opening: Open, used: str) -> None:
    """What the release before wrote by name is its key's; a later key of a name gets nothing."""
    queue = await opening(used)
    assert await queue.owners({}) == {}, "a Secret that is not there yet takes nothing"
    assert await queue.owners({"app": "key_1"}) == {"key_1": "app"}
    assert await queue.owners({"app": "key_2", "bob": "key_3"}) == {"key_1": "app"}


async def test_a_new_database_knows_no_names(opening: Open, spec: ServiceSpec) -> None:
    queue = await opening()
    assert await queue.owners({"app": "key_1"}) == {}
    assert queue.name == spec.uid


@pytest.fixture
def store(spec: ServiceSpec, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return Store.connect(spec.store)


@pytest.fixture
def tend(store: Store, spec: ServiceSpec) -> Callable[[Queue], Any]:
    """A round of the upkeep that a gateway of this queue does for others."""
    return lambda queue: Upkeep(queue, store, Predictor(Workers.of(spec)), spec.prefix).tend()


async def test_gateways_of_others_remove_what_a_deleted_service_left(
    opening: Open,
    postgres: Postgres,
    spec: ServiceSpec,
    store: Store,
    tend: Callable[[Queue], Any],
) -> None:
    queue = await opening()
    neighbour = await opening(uid=str(uuid4()), name="neighbour")
    photo = picture(spec, "x")
    store.put_bytes(photo, b"png")
    waits, done = await submitted(queue, image=photo), await submitted(queue)
    video = f"{spec.prefix}/videos/{done.id}/video.mp4"
    store.put_bytes(video, b"mp4")
    await sql(postgres.url(), "update jobs set priority = 1 where id = $1", done.id)
    job = await claimed(queue)
    assert await queue.complete(job.id, "w1", rendered(video))
    # It only rests: nothing that it keeps may go.
    await unseen(postgres, queue)
    await tend(neighbour)
    assert store.stat(photo)
    assert store.stat(video)
    assert await queue.get(waits.id)
    await sql(postgres.url(), "update services set deleted_at = now() where queue = $1", queue.name)
    await tend(neighbour)
    assert store.stat(photo) is None
    assert store.stat(video), "its retention is not over"
    await sql(postgres.url(), "update jobs set expires_at = now() where id = $1", done.id)
    await tend(neighbour)
    assert store.stat(video) is None
    left = await sql(postgres.url(), "select from services where queue = $1", queue.name)
    assert left == []


async def test_retention_ends_while_a_service_has_no_gateway(
    opening: Open, postgres: Postgres, spec: ServiceSpec, tend: Callable[[Queue], Any]
) -> None:
    queue, elsewhere = await opening(), await opening(uid=str(uuid4()), name="elsewhere")
    job = await submitted(queue)
    await claimed(queue)
    await queue.complete(job.id, "w1", rendered())
    await sql(postgres.url(), "update jobs set expires_at = now() where id = $1", job.id)
    await tend(elsewhere)
    assert await queue.get(job.id), "its own gateways were seen just now"
    await unseen(postgres, queue)
    moved = spec.store.model_copy(update={"bucket": "other"})
    await tend(await opening(uid=str(uuid4()), name="moved", store=moved))
    assert await queue.get(job.id), "nobody else reaches its bucket"
    await tend(elsewhere)
    assert await queue.get(job.id) is None


async def unseen(postgres: Postgres, queue: Queue) -> None:
    """As if the service had had no gateway for two hours."""
    await sql(
        postgres.url(),
        "update services set seen_at = now() - interval '2 hours' where queue = $1",
        queue.name,
    )
