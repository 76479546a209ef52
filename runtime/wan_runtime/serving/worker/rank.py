"""One rank of a worker, which its supervisor starts by `start_rank`.

Loads its part of the model, warms up, then renders what it is sent, together with the others, until
its socket is closed.
"""

from __future__ import annotations

import argparse
import logging
import queue
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from wan_runtime import heartbeat
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote
from wan_runtime.contract.service import DEFAULT_PROFILE, ServiceSpec
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InputError, StepError
from wan_runtime.model_parts import VAE, dit_part, loaded_by
from wan_runtime.models import compile_cache
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.files import FOLDER as ADAPTERS_FOLDER
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.models.dit.parallel import Ranks, join
from wan_runtime.models.full_weights import FineTune, FullWeights
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import compute_device, compute_dtype
from wan_runtime.models.tuned import tuned_files
from wan_runtime.presets import preset_named
from wan_runtime.process import child, logs, stacks
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.order import Stage
from wan_runtime.rendering.render import Renderer
from wan_runtime.rendering.times import Times, since_process_start
from wan_runtime.serving.worker import warm_up
from wan_runtime.serving.worker.adapter_checks import Checks, Sample
from wan_runtime.serving.worker.messages import (
    Alive,
    Beat,
    Cancel,
    Check,
    Checked,
    Done,
    Failed,
    Ready,
    Render,
    dump,
    order_of,
)
from wan_runtime.serving.worker.problems import problem_of

log = logging.getLogger(__name__)

ADAPTER_BYTES = 8 * 2**30
"""Host memory for adapters of one rank."""


class Cancelled(Exception):
    """The video is no longer wanted. Raised on all ranks at the same step."""


class Channel:
    """The socket to the supervisor. A thread hears cancellations while a video is made."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._one = connection, threading.Lock()
        self._tasks: queue.SimpleQueue[Render | Check | None] = queue.SimpleQueue()
        self._cancelled: str | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def tasks(self) -> queue.SimpleQueue[Render | Check | None]:
        """What to do; None at the end."""
        return self._tasks

    def is_cancelled(self, job_id: str) -> bool:
        return self._cancelled == job_id

    def send(self, message: Contract) -> None:
        with self._one:  # heartbeats come from any thread
            self._connection.sendall(dump(message))

    def _listen(self) -> None:
        with self._connection.makefile("rb") as lines:
            for line in lines:
                message = order_of(line)
                if isinstance(message, Cancel):
                    self._cancelled = message.job_id
                else:
                    self._tasks.put(message)
        self._tasks.put(None)


class Rank:
    """Renders with the others."""

    def __init__(self, opened: Opened, channel: Channel) -> None:
        self._ranks, self._renderer, self._checks = opened.ranks, opened.renderer, opened.checks
        self._channel = channel

    def run(self) -> None:
        """Until the supervisor closes the socket."""
        while (task := self._channel.tasks().get()) is not None:
            if isinstance(task, Check):
                self._check(task)
                continue
            self._channel.send(self._attempt(task))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # of what a failed video left, too

    def _check(self, task: Check) -> None:
        notes = []
        for each in task.adapters:
            try:
                notes.append(self._checks.again(each))
            except StepError as error:  # it stays as it was, and is sent again
                log.warning("adapter %s cannot be read: %s", each.name, error)
        self._channel.send(Checked(rank=self._ranks.rank, adapters=tuple(notes)))

    def _attempt(self, task: Render) -> Done | Failed:
        rank, job = self._ranks.rank, task.job_id
        try:
            return self._render(task)
        except Cancelled:
            return Done(rank=rank, job_id=job, cancelled=True)
        except Exception as error:
            problem = problem_of(error)
            unforeseen = not isinstance(error, StepError)
            log.warning("%s: %s", job, problem.message, exc_info=unforeseen)
            return Failed(rank=rank, job_id=job, code=problem.code, message=problem.message)

    def _render(self, task: Render) -> Done:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        computed = self._renderer.computed(task.order)
        shot = self._renderer.render(
            task.order,
            Path(task.image),
            task.adapters,
            lambda stage, step: self._report(
                task.job_id, stage, step, sum(number >= step for number in computed)
            ),
        )
        if shot.frames is not None:
            np.save(task.frames, shot.frames)
        return Done(
            rank=self._ranks.rank, job_id=task.job_id, seconds=shot.seconds, peak_gib=peak_gib()
        )

    def _report(self, job_id: str, stage: Stage, step: int, left: int) -> None:
        """Collective: rank 0's word on whether to go on holds for all."""
        rank = self._ranks.rank
        self._channel.send(Beat(rank=rank, job_id=job_id, stage=stage, step=step, left=left))
        if self._ranks.broadcast(self._channel.is_cancelled(job_id)):
            raise Cancelled


@dataclass(frozen=True, slots=True)
class Opened:
    """A rank that has loaded its part of the model."""

    ranks: Ranks
    renderer: Renderer
    checks: Checks
    adapters: tuple[AdapterNote, ...]
    """Notes on the service's adapters, on rank 0; empty on other ranks."""
    samples: tuple[Sample, ...]
    """Adapters that the warm-up has at work, alike on all ranks."""
    fine_tune: FineTune | None
    """Where the model has full weights in place of the released ones."""


def open_rank(
    service: ServiceSpec, rank: int, world: int, meet: Path, work: Path, times: Times
) -> Opened:
    """Load this rank's part of the model. Collective; rank 0 fetches first what all need, and
    looks at the service's adapters.

    Raises:
        InputError, InfrastructureError: of the number of GPUs, the files of model and adapters, the
            store, a library that is not there, and an attention kernel that cannot be used.
    """
    preset = preset_named(service.model.preset)
    if torch.cuda.is_available():
        if world > (count := torch.cuda.device_count()):
            text = f"--ranks {world}: each takes a GPU of its own, and this pod has {count}"
            raise InputError(Reason.JOB_INVALID, text)
        torch.cuda.set_device(rank)
    device = compute_device()
    compile_cache.use(device)
    with times.of("ranks"):
        ranks = join(rank, world, meet, service.parallel)
    store = Store.connect(service.store)
    ref = service.weights
    tuned = None if ref is None else FullWeights.load(store, ref, preset)
    parts = loaded_by(Step.SAMPLE, preset.name)
    if rank:
        parts = (*map(dit_part, preset.experts), VAE)

    def fetch() -> ModelFiles:
        return tuned_files(tuned, service.model, service.imported, parts, store, work)

    with times.of("files"):
        ranks.together(fetch if rank == 0 else lambda: None)
        files = fetch()
    profile = service.profile or DEFAULT_PROFILE
    model = ranks.together(
        lambda: Model(files, ranks, device, profile, service.policy, times, service.attention)
    )
    cache = AdapterCache(ADAPTER_BYTES, compute_dtype(device))
    files_of_adapters = AdapterFiles(store, work / ADAPTERS_FOLDER, preset)
    checks = Checks(files_of_adapters, cache, model.transformers)
    checked = service.adapters if rank == 0 else ()
    with times.of("adapters"):
        notes = ranks.together(lambda: tuple(map(checks.first, checked)))
    samples = ranks.broadcast(checks.samples)
    lineage = tuned.lineage if tuned else None
    return Opened(ranks, Renderer(model, cache), checks, notes, samples, lineage)


def peak_gib() -> float | None:
    """Peak GPU memory of this process since the last video began, in GiB; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_reserved() / 2**30, 2)


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns 0 when the supervisor is done with it, 1 if it could not begin."""
    parser = argparse.ArgumentParser(prog="python -m wan_runtime.serving.worker.start_rank")
    for path in ("service", "meet", "work"):
        parser.add_argument(f"--{path}", type=Path, required=True)
    for number in ("rank", "world", "channel"):
        parser.add_argument(f"--{number}", type=int, required=True)
    options = parser.parse_args(arguments)
    logs.configure(f"rank {options.rank}")
    stacks.write_on_signal()
    channel = Channel(socket.socket(fileno=options.channel))
    rank = options.rank

    def alive() -> None:
        with suppress(OSError):  # without its supervisor it is about to be killed
            channel.send(Alive(rank=rank))

    heartbeat.pass_on(alive)
    times = Times()
    times.add("process", since_process_start())
    try:
        started = time.monotonic()
        service = ServiceSpec.model_validate_json(options.service.read_bytes())
        opened = open_rank(service, rank, options.world, options.meet, options.work, times)
        loaded = round(time.monotonic() - started, 1)
        warm = warm_up.run(service, opened.renderer, options.work, times, opened.samples)
    except Exception as error:
        problem = problem_of(error)
        log.error("%s", problem.message, exc_info=True)
        channel.send(
            Failed(
                rank=rank,
                job_id=None,
                code=problem.code,
                message=problem.message,
                hopeless=isinstance(error, InputError),
            )
        )
        return 1
    log.info("start: %s", times)
    model = opened.renderer.model
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    channel.send(
        Ready(
            rank=rank,
            load_seconds=loaded,
            compile_seconds=warm.compile_seconds,
            warm_up_seconds=warm.seconds,
            parts=times.seconds,
            paces=warm.paces,
            peak_gib=peak_gib(),
            weights=model.digest,
            fine_tune=opened.fine_tune,
            adapters=opened.adapters,
            attention=model.attention,
            linear=model.linear,
            exchange=opened.ranks.exchange,
            placement=model.placement,
            profile=model.profile,
            device=name,
        )
    )
    Rank(opened, channel).run()
    return 0


def enter() -> NoReturn:
    """`main` as a process of its own, whose end the supervisor decides."""
    child.enter(main, ignored=(signal.SIGTERM, signal.SIGINT))
