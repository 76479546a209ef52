"""Videos with adapters that a worker cannot use: left to those that can."""

from __future__ import annotations

from orders import order, sign
from wan_runtime.contract.rollout import Rollout
from wan_runtime.contract.service import AdapterUse
from wan_runtime.rendering.order import Job
from wan_runtime.serving.queue.queue import Queue


async def asked(queue: Queue, *adapters: str, prompt: str = "a fairy waves") -> Job:
    uses = tuple(AdapterUse(name=each, strength=1.0) for each in adapters)
    wanted = order(prompt).model_copy(update={"adapters": uses})
    answer = await queue.submit(wanted, owner="ann", predicted_seconds=60, limit_seconds=1e9)
    return answer.job


async def claims(queue: Queue, worker: str, *lacking: str, revision: str = "") -> list[str]:
    """Ids of all that a worker can get, in order."""
    found = []
    while (job := await queue.claim(worker, 30, revision, frozenset(lacking))) is not None:
        found.append(job.id)
    return found


async def can_use(queue: Queue, worker: str, *adapters: str, revision: str = "") -> None:
    await queue.alive(sign(worker, revision=revision).model_copy(update={"adapters": adapters}))


async def test_a_video_goes_to_a_worker_that_has_its_adapter(queue: Queue) -> None:
    await can_use(queue, "a", "good")
    await can_use(queue, "b", "good", "style")
    plain, styled, good = [await asked(queue, *each) for each in ((), ("good", "style"), ("good",))]
    # Neither what a prompt says nor a name that begins alike counts, nor does it break the claim.
    odd = await asked(queue, "style-2", prompt='"name":"style" and \x00')
    assert await claims(queue, "a", "style") == [plain.id, good.id, odd.id]
    assert await claims(queue, "b") == [styled.id]


async def test_what_nobody_can_use_is_taken_and_fails(queue: Queue) -> None:
    await can_use(queue, "a")
    await can_use(queue, "b", "good")
    await queue.alive(sign("c", ready=False).model_copy(update={"adapters": ("style",)}))
    styled = await asked(queue, "style")
    assert await claims(queue, "a", "style") == [styled.id]


async def test_workers_of_another_track_do_not_count(queue: Queue) -> None:
    await queue.roll_out(Rollout(canary="6a", weight=100, number=1))
    await can_use(queue, "a", revision="6a")
    await can_use(queue, "b", "style", revision="5f")
    styled = await asked(queue, "style")
    assert await claims(queue, "a", "style", revision="6a") == [styled.id]
