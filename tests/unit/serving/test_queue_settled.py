"""A job is claimed as the worker renders it, and says so from then on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orders import found, order, sign, sql
from postgres import Postgres
from wan_runtime.contract.rollout import Rollout
from wan_runtime.contract.sampling import SamplingSpec, Size
from wan_runtime.contract.service import AdapterUse
from wan_runtime.rendering.order import Choices, Job, State
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.queue.queue import Queue


@dataclass(frozen=True)
class Settle:
    """With so many steps; not at all, if it refuses them."""

    steps: int
    refuses: bool = False

    def __call__(self, job: Job) -> Job:
        if self.refuses:
            text = f"steps: 4 contradicts adapter turbo, which was distilled for {self.steps}"
            raise Refusal(Code.INVALID_REQUEST, text)
        assert job.choices is not None
        settled = job.order.model_copy(update={"steps": self.steps})
        return job.model_copy(update={"order": settled, "predicted_seconds": 2.0 * self.steps})


async def asked(queue: Queue, size: Size | None = None) -> Job:
    wanted = order("quotes \" and \x00") if size is None else order().model_copy(
        update={"size": size}
    )  # fmt: skip
    answer = await queue.submit(
        wanted, owner="ann", predicted_seconds=60, limit_seconds=1e9,
        choices=Choices(sampling=SamplingSpec(guidance=2.0)),
    )  # fmt: skip
    return answer.job


async def test_the_job_says_what_is_rendered(queue: Queue) -> None:
    job = await asked(queue)
    mine = await queue.claim("w1", 30, settle=Settle(9))
    assert mine is not None
    assert (mine.order.steps, mine.predicted_seconds) == (9, 18.0)
    assert mine == await found(queue, job.id)
    assert mine.order == job.order.model_copy(update={"steps": 9})
    assert mine.choices == job.choices
    await queue.hand_back(job.id, "w1", "stopped", counts=False)
    back = await found(queue, job.id)
    assert (back.order, back.predicted_seconds) == (job.order, 60.0), "another may take it as it is"
    other = await queue.claim("w2", 30, settle=Settle(4))
    assert other is not None
    assert (other.order.steps, other.predicted_seconds) == (4, 8.0)


async def refused(queue: Queue, job: Job) -> str:
    """Why it failed."""
    failed = await found(queue, job.id)
    assert failed.state is State.FAILED
    assert failed.order == job.order.model_copy(update={"image": failed.order.image})
    assert failed.problem is not None
    assert failed.problem.code == "invalid_request"
    return failed.problem.message


async def test_what_a_revision_cannot_render_is_left_to_another(queue: Queue) -> None:
    job = await asked(queue)
    new = sign("new", ready=False, revision="6a")
    for each in (sign("old", revision="5f"), sign("old-2", revision="5f"), new):
        await queue.alive(each)
    assert await queue.claim("old", 30, "5f", settle=Settle(9, refuses=True)) is None
    assert (await found(queue, job.id)).state is State.QUEUED
    await queue.alive(new.model_copy(update={"stopping": True}))
    assert await queue.claim("old", 30, "5f", settle=Settle(9, refuses=True)) is None
    assert (await refused(queue, job)).endswith(
        "for 9; the service was changed while the video waited: ask again"
    )


async def test_one_that_takes_it_gets_what_others_refused(queue: Queue) -> None:
    job = await asked(queue)
    for each in (sign("old", revision="5f"), sign("new", revision="6a")):
        await queue.alive(each)
    assert await queue.claim("old", 30, "5f", settle=Settle(9, refuses=True)) is None
    taken = await queue.claim("new", 30, "6a", settle=Settle(4))
    assert taken is not None
    assert (taken.id, taken.order.steps) == (job.id, 4)


@pytest.mark.parametrize("last", ["old", "new"])
async def test_what_all_revisions_refuse_fails_by_the_newest(queue: Queue, last: str) -> None:
    """While the rollout goes on, whoever is the last to look at it."""
    job, later = await asked(queue), await asked(queue)
    who = {"old": ("5f", Settle(9, refuses=True)), "new": ("6a", Settle(4, refuses=True))}
    for name, (revision, _) in who.items():
        await queue.alive(sign(name, revision=revision))
    for name in sorted(who, key=lambda each: each == last):
        assert (await found(queue, job.id)).state is State.QUEUED
        revision, settle = who[name]
        assert await queue.claim(name, 30, revision, settle=settle) is None
    assert "distilled for 4; the service was changed" in await refused(queue, job)
    assert "distilled for 4; the service was changed" in await refused(queue, later)


async def test_what_another_refused_is_left_to_it_for_nothing(queue: Queue) -> None:
    """Not for the size that it has warmed up at, nor for an adapter that it alone can use."""
    job = await asked(queue)
    size = str(job.order.size)
    new = sign("new", revision="6a").model_copy(
        update={"seconds_per_clip": {size: 1.0}, "adapters": ("style",)}
    )
    await queue.alive(sign("old", revision="5f"))
    await queue.alive(new)
    styled = await queue.submit(
        job.order.model_copy(update={"adapters": (AdapterUse(name="style", strength=1.0),)}),
        owner="ann", predicted_seconds=60, limit_seconds=1e9, choices=job.choices,
    )  # fmt: skip
    lacking, mine = frozenset({"style"}), frozenset({"2x2"})
    assert await queue.claim("old", 30, "5f", lacking, sizes=mine, settle=Settle(9)) is None
    assert await queue.claim("new", 30, "6a", settle=Settle(4, refuses=True)) is None
    for each in (job, styled.job):
        taken = await queue.claim("old", 30, "5f", lacking, sizes=mine, settle=Settle(9))
        assert taken is not None
        assert taken.id == each.id


async def test_revisions_that_never_get_it_are_not_waited_for(queue: Queue) -> None:
    await queue.roll_out(Rollout(canary="6a", weight=0, number=1))
    await queue.alive(sign("new", revision="6a"))
    job = await asked(queue)
    assert await queue.claim("old", 30, "5f", settle=Settle(9, refuses=True)) is None
    assert "distilled for 9" in await refused(queue, job)


async def test_sizes_go_to_workers_that_have_warmed_up_at_them(queue: Queue) -> None:
    small, large = Size(width=64, height=64), Size(width=128, height=96)
    wanted = [await asked(queue, size) for size in (large, small)]
    plain = await asked(queue)
    told = sign("new", revision="6a").model_copy(update={"seconds_per_clip": {"128x96": 1.0}})
    await queue.alive(told.model_copy(update={"ready": False}))
    mine = frozenset({"64x64"})
    await queue.alive(told)
    for each in (wanted[1], plain):
        job = await queue.claim("old", 30, "5f", sizes=mine)
        assert job is not None
        assert job.id == each.id
    assert await queue.claim("old", 30, "5f", sizes=mine) is None
    await queue.gone("new")
    job = await queue.claim("old", 30, "5f", sizes=mine)
    assert job is not None
    assert job.id == wanted[0].id, "nobody has"


async def test_choices_of_a_newer_release_wait_for_its_workers(
    queue: Queue, postgres: Postgres
) -> None:
    """A worker of this one would drop what it does not know, and settle without it."""
    job = await asked(queue)
    newer = '{"sampling": {"guidance": 2.0, "sampler": "DPM"}}'
    await sql(postgres.url(), "update jobs set choices = $2::json where id = $1", job.id, newer)
    assert await queue.claim("w1", 30, settle=Settle(9)) is None
    older = '{"sampling": {"guidance": 2.0}}'
    await sql(postgres.url(), "update jobs set choices = $2::json where id = $1", job.id, older)
    assert await queue.claim("w1", 30, settle=Settle(9)) is not None


async def test_two_that_lack_what_the_other_has_leave_nothing_to_each_other(queue: Queue) -> None:
    """One has the size, the other the adapter: it renders the size, without a warm-up at it."""
    plain = await asked(queue)
    size = str(plain.order.size)
    answer = await queue.submit(
        plain.order.model_copy(update={"adapters": (AdapterUse(name="style", strength=1.0),)}),
        owner="ann", predicted_seconds=60, limit_seconds=1e9,
    )  # fmt: skip
    old = sign("old", revision="5f").model_copy(update={"seconds_per_clip": {size: 1.0}})
    new = sign("new", revision="6a").model_copy(update={"adapters": ("style",)})
    await queue.alive(old)
    await queue.alive(new)
    mine = frozenset({"2x2"})
    taken = await queue.claim("new", 30, "6a", sizes=mine)
    assert taken is not None
    assert taken.id == answer.job.id
    assert await queue.claim("new", 30, "6a", sizes=mine) is None
    taken = await queue.claim("old", 30, "5f", frozenset({"style"}), sizes=frozenset({size}))
    assert taken is not None
    assert taken.id == plain.id
