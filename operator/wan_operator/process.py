"""The operator's process from start to graceful end."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from wan_operator.answers import NOT_SERVED
from wan_operator.controller import Controller
from wan_operator.delayqueue import TokenBucket
from wan_operator.errors import PermanentError, TransientError
from wan_operator.handlers import watch
from wan_operator.health import Health, PortUnusable
from wan_operator.kinds import KINDS
from wan_operator.kube import Kube
from wan_operator.kubeconfig import KubeconfigError, connect
from wan_operator.lease import Lease, LeaseLostError
from wan_operator.metrics import Metrics
from wan_operator.settings import Settings
from wan_runtime.contract.logs import JsonFormatter, TextFormatter
from wan_runtime.wait import within

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
"""Between two tries to reach the API server at the start."""
FINISH_SECONDS = 20.0
"""For reconciles in flight after SIGTERM; within the pod's grace period of 30 s."""


async def run(settings: Settings) -> int:
    """Until SIGTERM (0), or until going on would be wrong (1).

    Raises:
        SystemExit: with a sentence, if the port or the access to the API server cannot be used.
    """
    try:
        async with AsyncExitStack() as ends:
            return await _run(settings, ends)
    except (PortUnusable, KubeconfigError) as error:
        raise SystemExit(f"wan-operator: {error}") from error


async def _run(settings: Settings, ends: AsyncExitStack) -> int:
    stop = asyncio.Event()
    listen(stop)
    metrics = Metrics()
    health = Health(metrics)
    runner, port = await health.serve(settings.health_port)
    ends.push_async_callback(runner.cleanup)
    logger.info("started", extra={"health_port": port, "identity": settings.identity})
    ends.callback(asyncio.create_task(health.beat()).cancel)
    spend = TokenBucket(settings.writes_per_second).spend
    kube = Kube(await connect(), metrics, spend, settings.identity)
    ends.push_async_callback(kube.close)
    http = await ends.enter_async_context(aiohttp.ClientSession())
    return await lead(settings, metrics, health, kube, http, stop)


def listen(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def lead(
    settings: Settings,
    metrics: Metrics,
    health: Health,
    kube: Kube,
    http: aiohttp.ClientSession,
    stop: asyncio.Event,
) -> int:
    stopping = asyncio.create_task(stop.wait(), name="stop")
    lease = Lease(kube, settings)
    await check_installed(kube, settings, stop)
    health.connected = True
    if not await first(asyncio.create_task(lease.acquire(), name="acquire"), stopping):
        await lease.release()
        return 0
    metrics.leading.set(1)
    controller = health.controller = Controller(kube, settings, metrics, http)
    keeping = asyncio.create_task(lease.keep(), name="lease")
    working = asyncio.create_task(controller.run(), name="controller")
    watching = asyncio.create_task(watch_after_sweep(controller, settings, stop), name="watches")
    await asyncio.wait({stopping, keeping, working, watching}, return_when="FIRST_COMPLETED")

    controller.stop()
    await asyncio.wait({working}, timeout=FINISH_SECONDS if not keeping.done() else 0)
    failed = [task for task in (keeping, working, watching) if task.done() and task.exception()]
    for task in failed:
        log_end(task)
    unexpected = not stop.is_set()
    await cancelled(stopping, keeping, working, watching)
    await lease.release()
    logger.info("stopped")
    return 1 if failed or unexpected else 0


def log_end(task: asyncio.Task[None]) -> None:
    """Log what has ended a part of the process. All but a lost Lease is a bug, and says where."""
    error = task.exception()
    foreseen = isinstance(error, LeaseLostError)
    logger.error(
        "ended",
        extra={"part": task.get_name(), "error": str(error) if foreseen else "a bug"},
        exc_info=None if foreseen else error,
    )


async def watch_after_sweep(
    controller: Controller, settings: Settings, stop: asyncio.Event
) -> None:
    """In this order a cold start costs bulk LISTs only: the watches then deliver what is newer."""
    await controller.synced.wait()
    await watch(controller, settings, lambda: listen(stop))


async def check_installed(kube: Kube, settings: Settings, stop: asyncio.Event) -> None:
    """Waits for the API server. Fails at once and in words if the CRDs are not there; kopf would
    wait in silence."""
    for kind in KINDS:
        await _check_kind(kube, kind, settings, stop)


async def _check_kind(kube: Kube, kind: str, settings: Settings, stop: asyncio.Event) -> None:
    namespace = next(iter(settings.watch_namespaces), None)
    while not stop.is_set():
        try:
            async for _ in kube.list_all(kind, namespace):
                break
        except TransientError as error:
            logger.warning("waits for the API server", extra={"error": str(error)})
            await within(CONNECT_SECONDS, stop)
        except PermanentError as error:
            if error.reason == NOT_SERVED:
                raise SystemExit(
                    f"wan-operator: the {kind} CRD is not installed: kubectl apply -f crds/"
                ) from error
            raise SystemExit(f"wan-operator: cannot list {kind}s: {error}") from error
        else:
            return


async def first(task: asyncio.Task[None], stopping: asyncio.Task[Any]) -> bool:
    """Whether `task` was done before the stop."""
    await asyncio.wait({task, stopping}, return_when="FIRST_COMPLETED")
    if not task.done():
        await cancelled(task)
        return False
    task.result()
    return True


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def configure_logging(settings: Settings) -> None:
    handler = logging.StreamHandler()
    text = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter(text))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # kopf logs each event that it handles; only its warnings are news.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("asyncio").setLevel(logging.WARNING)
