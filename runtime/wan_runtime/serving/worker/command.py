"""`wan-runtime worker`, once its arguments are read."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.report import STATE_PAGE
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import StepError
from wan_runtime.presets import preset_named
from wan_runtime.process import early
from wan_runtime.process.pages import Page, Pages, chosen_port
from wan_runtime.serving import start
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.reach import Wait, opened, reach
from wan_runtime.serving.worker.attempt import Timing
from wan_runtime.serving.worker.worker import Worker

SIGNALS = (signal.SIGTERM, signal.SIGINT)
T = TypeVar("T")


def run(options: argparse.Namespace) -> int:
    """Until SIGTERM. Returns the exit code."""
    if options.work is not None:
        try:
            options.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            cause = (error.strerror or "it cannot be had").lower()
            text = f"--work {options.work}: {cause}; name a folder that can be written to"
            return start.ended(text, ExitClass.INPUT)
        return asyncio.run(_serve(options, options.work))
    with tempfile.TemporaryDirectory(prefix="wan-worker-") as folder:
        return asyncio.run(_serve(options, Path(folder)))


async def _serve(options: argparse.Namespace, work: Path) -> int:
    try:
        service, database = start.given(options)
        preset_named(service.model.preset)
        store = Store.connect(service.store)
        wait = Wait()
        served = wait.pages()
        pages = Pages(served, chosen_port())
    except StepError as error:
        return start.ended(error.message, error.exit_class)
    try:
        queue = await stoppable(reach(database, partial(opened, service), wait.because))
        if queue is None:
            return 0
        return await _work(options, service, queue, store, work, served)
    finally:
        pages.close()


async def stoppable(action: Coroutine[Any, Any, T]) -> T | None:
    """The action's result; None if a signal stopped it."""
    task, loop = asyncio.create_task(action), asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    if early.received():
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def _work(
    options: argparse.Namespace,
    service: ServiceSpec,
    queue: Queue,
    store: Store,
    work: Path,
    served: dict[str, Page],
) -> int:
    """`served`: the pages that are served, which become the worker's."""
    worker = Worker(
        service,
        options.service,
        queue,
        store,
        work,
        ranks=options.ranks,
        pod=os.environ.get("WAN_POD_NAME", ""),
        revision=os.environ.get("WAN_REVISION", ""),
        timing=Timing(grace=options.grace),
    )
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, worker.stop)
    if early.received():  # before there was a worker to stop
        worker.stop()
    served |= worker.status.pages()
    del served[STATE_PAGE]  # from now on its reports have what keeps it
    try:
        code = await worker.run()
    finally:
        await queue.close()
    if code is ExitClass.STOPPED:
        return 0
    return start.ended(worker.status.obstacle or "", code)
