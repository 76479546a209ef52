"""The queue, the write budget, the watchdog, the words of the API server."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from wan_operator import delayqueue
from wan_operator import watchdog as watchdog_module
from wan_operator.answers import NOT_SERVED, refusal
from wan_operator.delayqueue import DelayQueue, TokenBucket
from wan_operator.errors import PermanentError, TransientError
from wan_operator.kube import merge_patch
from wan_operator.watchdog import Watchdog


async def test_a_key_is_given_out_once_however_often_it_is_added() -> None:
    queue: DelayQueue[str] = DelayQueue()
    for _ in range(5):
        queue.add("a")
    assert (await queue.get() or ("",))[0] == "a"
    assert queue.depth() == 0


async def test_a_key_at_work_comes_again_only_when_it_is_done() -> None:
    queue: DelayQueue[str] = DelayQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("b")
    assert (await queue.get() or ("",))[0] == "b", "another worker gets another key"
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done("a")
    assert (await waiting or ("",))[0] == "a"


async def test_the_earliest_wish_counts() -> None:
    queue: DelayQueue[str] = DelayQueue()
    queue.add("a", 3600)
    assert queue.depth() == 0
    queue.add("a", 0.01)
    queue.add("a", 60)
    start = time.monotonic()
    assert (await queue.get() or ("",))[0] == "a"
    assert time.monotonic() - start < 50, "not the later one"
    queue.done("a")
    assert not queue.is_scheduled("a"), "later wishes went with it"


async def test_closing_wakes_every_worker() -> None:
    queue: DelayQueue[str] = DelayQueue()
    queue.add("a", 3600)
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    assert await asyncio.gather(*workers) == [None, None, None]


async def test_waiters_of_the_bucket_line_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    now = [0.0]
    monkeypatch.setattr(delayqueue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(delayqueue, "asyncio", SimpleNamespace(sleep=sleep))
    bucket = TokenBucket(100)
    for _ in range(220):
        await bucket.spend()
    waits = [number / 100 for number in range(1, 21)]
    assert slept == pytest.approx(waits), "200 at once, then 100 a second"
    now[0] += 0.3
    for _ in range(11):
        await bucket.spend()
    assert slept == pytest.approx([*waits, 0.01]), "ten are there once those have been served"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(watchdog_module.time, "monotonic", lambda: now[0])
    return now


def test_a_watch_that_does_not_deliver_in_time_is_dead(clock: list[float]) -> None:
    dog = Watchdog()
    dog.delivered("Job", "u1", "5")
    clock[0] += 1
    dog.listed("Job", "u1", "6", began=clock[0])
    dog.listed("Pod", "u2", "1", began=clock[0])
    clock[0] += 59
    dog.listed("Job", "u1", "6", began=clock[0])  # a second sweep gives no new minute
    assert dog.dead() == []
    dog.delivered("Pod", "u2", "1")
    clock[0] += 2
    assert dog.dead() == ["Job"]
    dog.keep_only("Job", set())
    assert dog.dead() == [], "deleted in a gap of the watch: nothing will come any more"


def test_a_quiet_watch_is_not_dead(clock: list[float]) -> None:
    dog = Watchdog()
    dog.delivered("Job", "u1", "5")
    for _ in range(3):
        clock[0] += 100_000
        dog.listed("Job", "u1", "5", began=clock[0])
        assert dog.dead() == []


def test_a_watch_that_is_ahead_of_the_list_is_not_dead(clock: list[float]) -> None:
    """A LIST takes time: its later pages may be older than what the watch brings meanwhile."""
    dog = Watchdog()
    dog.delivered("Job", "u1", "5")
    began = clock[0] = 2000.0
    clock[0] += 1
    dog.delivered("Job", "u1", "6")
    clock[0] += 1
    dog.listed("Job", "u1", "5", began=began)
    clock[0] += 1000
    assert dog.dead() == []


def test_what_the_sweep_has_acted_on_is_no_news(clock: list[float]) -> None:
    dog = Watchdog()
    dog.listed("Job", "u1", "5", began=clock[0])
    assert not dog.delivered("Job", "u1", "5")
    assert dog.delivered("Job", "u1", "6")
    assert not dog.delivered("Job", "u1", "6"), "a re-LIST repeats it"
    assert dog.delivered("Job", "u1", "7")
    assert dog.delivered("Job", "u1", "7", gone=True)
    dog.listed("Job", "u2", "1", began=clock[0])
    dog.forget_listed()
    assert dog.delivered("Job", "u2", "1"), "the sweep broke off before it acted"


def test_what_no_watch_delivered_is_forgotten_with_its_end(clock: list[float]) -> None:
    """Or an operator whose watches are deaf would remember every Job there ever was."""
    dog = Watchdog()
    dog.listed("Job", "u1", "5", began=clock[0])
    dog.listed("Pod", "u2", "5", began=clock[0])
    dog.keep_only("Job", set())
    assert dog.delivered("Job", "u1", "5"), "its uid is unknown again"
    assert not dog.delivered("Pod", "u2", "5"), "another kind's"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"a": 1}),
        ({"a": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": 3}),
        ({"a": 3}, {"a": {"b": {}}}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_a_merge_patch_makes_the_new_of_the_old(
    old: dict[str, object], new: dict[str, object]
) -> None:
    assert apply(old, merge_patch(old, new)) == new
    assert (merge_patch(old, new) == {}) == (old == new)


def apply(target: object, patch: object) -> object:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, "Unauthorized", TransientError),
        (403, "Forbidden", PermanentError),
        (404, "NotFound", PermanentError),
        (409, "Conflict", TransientError),
        (409, "AlreadyExists", PermanentError),
        (422, "Invalid", PermanentError),
        (429, "TooManyRequests", TransientError),
        (500, "InternalError", TransientError),
        (503, "ServiceUnavailable", TransientError),
    ],
)
def test_answers_are_transient_or_permanent(
    status: int, reason: str, kind: type[Exception]
) -> None:
    body = f'{{"reason": "{reason}", "message": "m"}}'.encode()
    assert isinstance(refusal(status, body, None, "GET /x"), kind)


def test_a_path_that_nobody_serves_is_not_an_object_that_is_not_there() -> None:
    error = refusal(404, b"404 page not found\n", None, "GET /x")
    assert isinstance(error, PermanentError)
    assert error.reason == NOT_SERVED


def test_the_server_says_how_long_to_wait() -> None:
    error = refusal(429, b"<html>slow down</html>", "7", "GET /x")
    assert isinstance(error, TransientError)
    assert error.retry_after == 7
