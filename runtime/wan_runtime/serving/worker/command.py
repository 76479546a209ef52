"""`wan-runtime worker`, once its arguments are read."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ExitClass
from wan_runtime.errors import StepError
from wan_runtime.presets import preset_named
from wan_runtime.process import early
from wan_runtime.process.pages import Pages, chosen_port
from wan_runtime.serving import start
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.reach import reach
from wan_runtime.serving.worker.attempt import Timing
from wan_runtime.serving.worker.worker import Worker


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
        port = chosen_port()
        await reach(service, database)
    except StepError as error:
        return start.ended(error.message, error.exit_class)
    queue = await Queue.of(service, database)
    worker = Worker(
        service,
        options.service,
        queue,
        Store.connect(service.store),
        work,
        ranks=options.ranks,
        pod=os.environ.get("WAN_POD_NAME", ""),
        revision=os.environ.get("WAN_REVISION", ""),
        timing=Timing(grace=options.grace),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if early.received():  # before there was a worker to stop
        worker.stop()
    try:
        pages = Pages(worker.status.pages(), port)
    except StepError as error:
        await queue.close()
        return start.ended(error.message, error.exit_class)
    try:
        code = await worker.run()
    finally:
        pages.close()
        await queue.close()
    if code is ExitClass.STOPPED:
        return 0
    return start.ended(worker.status.obstacle or "", code)
