"""One job through its stages: inputs, the ranks, the files. Each way that this can end is here."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import computed_steps
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.planner.architecture import tokens_of
from wan_runtime.planner.gpus import by_device
from wan_runtime.presets import Preset
from wan_runtime.rendering import provenance
from wan_runtime.rendering.order import Job, Problem, Rendered, Stage, VideoOrder
from wan_runtime.serving import moderation
from wan_runtime.serving.planned import Workers
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.worker.advice import advice
from wan_runtime.serving.worker.attempt import Attempt
from wan_runtime.serving.worker.inputs import Inputs
from wan_runtime.serving.worker.messages import Beat, Done, Pace, Ready, Render
from wan_runtime.serving.worker.output.deliver import Delivered, deliver, write
from wan_runtime.serving.worker.output.order import REVIEWED, Cut
from wan_runtime.serving.worker.problems import Unrenderable, problem_of
from wan_runtime.serving.worker.processes import Processes, RanksFailed
from wan_runtime.serving.worker.status import Status

log = logging.getLogger(__name__)

WRITING_SECONDS = 10.0
"""Until one was written: a guess, for predictions."""
REVIEWED_FRAMES = 4
"""Frames of a video that moderation reviews."""
STORE_PAUSE = 5.0
"""Seconds before a store that failed is asked again, beyond its own patience."""
STORE = (Reason.STORE_UNREACHABLE, Reason.STORE_NOT_FOUND, Reason.STORE_ACCESS_DENIED)
"""The job is not to blame, nor is the worker."""
PAUSES = (1.0, 5.0, 20.0)
"""Seconds before moderation that did not answer is asked again: a video cost minutes of GPUs."""


@dataclass(slots=True)
class Production:
    """Production of one service's videos."""

    service: ServiceSpec
    preset: Preset
    store: Store
    inputs: Inputs
    work: Path
    status: Status
    _writing: float = WRITING_SECONDS

    async def make(self, attempt: Attempt, ranks: Processes, free: Callable[[], None]) -> None:
        """Completed, failed, cancelled or handed back. `free`: called when the ranks are.

        Raises:
            QueueAway: the job is left to its lease.
            RanksFailed: with the job handed back, or failed if it is what broke the ranks.
            CancelledError: with the job handed back, at no cost.
        """
        folder = self.work / attempt.job.id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            task, done = await self._render(attempt, ranks, folder)
            free()
            if any(each.cancelled for each in done) or attempt.unwanted:
                await attempt.cancelled()
                self.status.videos.labels("cancelled").inc()
            else:
                await self._deliver(attempt, ranks.ready[0], task, done, folder)
        except asyncio.CancelledError:
            await attempt.hand_back("its worker was stopped", counts=False)
            raise
        except Unrenderable as error:
            await self._fail(attempt, error.problem, ranks.ready[0])
        except RanksFailed as lost:
            if lost.problem is None:
                await attempt.hand_back(str(lost), counts=True)
            else:
                await self._fail(attempt, lost.problem, ranks.ready[0])
            raise
        except Refusal as refusal:
            problem = Problem(code=refusal.code, message=refusal.message)
            await self._fail(attempt, problem, ranks.ready[0])
        except InputError as error:
            await self._fail(attempt, problem_of(error), ranks.ready[0])
        except QueueAway:
            raise
        except InfrastructureError as error:
            if error.reason in STORE:
                self.status.store_problem = error.message
            await attempt.hand_back(error.message, counts=error.reason not in STORE)
        except Exception as error:  # the disk, or a bug: another try may do better
            log.warning("%s", attempt.job.id, exc_info=True)
            await attempt.hand_back(problem_of(error).message, counts=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _render(
        self, attempt: Attempt, ranks: Processes, folder: Path
    ) -> tuple[Render, list[Done]]:
        job = attempt.job
        task = await asyncio.to_thread(self.inputs.fetch, job, folder)
        size = job.order.size
        tokens = tokens_of(job.order.frames, size.width, size.height)
        first = ranks.ready[0]
        workers = replace(
            Workers.of(self.service),
            profile=first.profile,
            gpus=len(ranks.ready),
            gpu=by_device(first.device),
        )
        clock = Eta(first, attempt, workers, self._writing)
        attempt.on_unwanted = lambda: ranks.cancel(job.id)
        if attempt.unwanted:
            return task, []
        return task, await ranks.render(task, tokens, clock.beat)

    async def _deliver(
        self, attempt: Attempt, ready: Ready, task: Render, done: Sequence[Done], folder: Path
    ) -> None:
        """mp4, thumbnail and spritesheet in the bucket, then the job is completed."""
        order, started = attempt.job.order, time.monotonic()
        profile = order.profile_on(ready.profile)
        attempt.report(Stage.WRITING, order.steps, self._writing)
        cut = Cut(
            frames=task.frames,
            folder=str(folder),
            fps=order.fps,
            metadata=provenance.metadata(
                order,
                self.preset.name,
                ready.weights,
                task.adapters,
                ready.fine_tune,
                profile,
                gpus=len(done),
            ),
            visible_mark=order.visible_mark,
            reviewed=0 if self.service.moderation is None else REVIEWED_FRAMES,
        )
        await write(cut)
        await self._review(attempt.job, folder)
        prefix = f"{self.folder}{attempt.job.id}"
        delivered = await self._send(attempt, prefix, folder)
        self._writing = round(time.monotonic() - started, 3)
        first = next(each for each in done if each.rank == 0)
        rendered = Rendered(
            files=delivered.files,
            bytes=delivered.bytes,
            sha256=delivered.sha256,
            seconds={**first.seconds, Stage.WRITING: self._writing},
            peak_gib=max((each.peak_gib for each in done if each.peak_gib), default=None),
            weights=provenance.weights_digest(ready.weights, task.adapters),
            preset=self.preset.name,
            profile=profile,
            gpus=len(done),
            computed=computed_steps(profile, order.steps, self.service.policy),
        )
        if await attempt.complete(rendered):
            self.status.completed(rendered.seconds, rendered.peak_gib)

    async def _send(self, attempt: Attempt, prefix: str, folder: Path) -> Delivered:
        """What is made is kept until the store takes it: it cost minutes of GPUs. Raises
        InfrastructureError, if nobody wants it any more."""
        while True:
            try:
                return await deliver(self.store, prefix, folder)
            except InfrastructureError as error:
                if attempt.unwanted:
                    raise
                log.warning("%s is kept until it can be sent: %s", attempt.job.id, error)
                self.status.store_problem = error.message
                attempt.report(Stage.WRITING, attempt.job.order.steps, None)
                await asyncio.sleep(STORE_PAUSE)

    async def store_answers(self) -> None:
        """Returns once it does. Raises InfrastructureError(STORE_ACCESS_DENIED): a new pod has the
        Secret as it is by then."""
        while self.status.store_problem is not None:
            try:
                await asyncio.to_thread(next, self.store.list(self.folder), None)
                self.status.store_problem = None
            except InfrastructureError as error:
                self.status.store_problem = error.message
                if error.reason is Reason.STORE_ACCESS_DENIED:
                    raise
                await asyncio.sleep(STORE_PAUSE)

    @property
    def folder(self) -> str:
        """Key prefix of all videos in the bucket."""
        return f"{self.service.prefix}/videos/"

    async def _review(self, job: Job, folder: Path) -> None:
        """Nothing is uploaded before moderation saw some frames. Raises Refusal."""
        if self.service.moderation is None:
            return
        names = [REVIEWED.format(number) for number in range(REVIEWED_FRAMES)]
        pictures = [(folder / name).read_bytes() for name in names]
        side = moderation.Side.OUTPUT
        for pause in PAUSES:
            try:
                await moderation.check(self.service, side, job.id, job.order, pictures)
            except Refusal as refusal:
                if refusal.code is not Code.UNAVAILABLE:
                    raise
                log.warning("%s: %s: again in %.0f s", job.id, refusal.message, pause)
                await asyncio.sleep(pause)
            else:
                return
        await moderation.check(self.service, side, job.id, job.order, pictures)

    async def _fail(self, attempt: Attempt, problem: Problem, ready: Ready) -> None:
        if problem.code == Code.OUT_OF_MEMORY:
            order, sizes = attempt.job.order, self.service.sizes
            what = advice(order, self.preset, sizes, ready.device, ready.profile, self.status.ranks)
            problem = Problem(code=problem.code, message=f"{problem.message}; {what}")
        await attempt.fail(problem)
        self.status.videos.labels("failed").inc()


@dataclass(slots=True)
class Eta:
    """When a video will be done, by the warm-up's pace, as the planner has the two videos, then by
    its own."""

    ready: Ready
    attempt: Attempt
    workers: Workers
    writing: float
    _began: float = 0.0
    _computing: int = 0
    """Number of steps that are computed, all told."""

    def beat(self, beat: Beat) -> None:
        """Tell the owner where it is."""
        self.attempt.report(beat.stage, beat.step, self._left(beat))

    def _left(self, beat: Beat) -> float | None:
        order = self.attempt.job.order
        pace = self.ready.paces.get(str(order.size))
        if pace is None:
            return None
        mine, warm = self.workers.seconds(order), self.workers.seconds(warmed_up(order, pace))
        step, now = pace.step_seconds * mine.step / warm.step, time.monotonic()
        decoding = pace.stages[Stage.DECODING] * mine.others / warm.others
        if beat.stage is Stage.DENOISING:
            self._began, self._computing = self._began or now, self._computing or beat.left
            if computed := self._computing - beat.left:
                step = (now - self._began) / computed
        return round(beat.left * step + decoding + self.writing, 1)


def warmed_up(order: VideoOrder, pace: Pace) -> VideoOrder:
    """The order, as long and as guided as the warm-up's video, and of the worker's own profile."""
    scale = 2.0 if pace.guided else 1.0
    change = {"frames": pace.frames, "guidance": scale, "guidance_low": scale, "profile": None}
    return order.model_copy(update=change)
