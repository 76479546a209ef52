"""What happens when watches deliver nothing at all: the sweep carries on, and liveness says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from integration.apiserver import ApiServer
from integration.cluster import STEPS, Cluster
from integration.operator_process import eventually
from wan_operator import watchdog
from wan_operator.controller import Controller
from wan_operator.delayqueue import TokenBucket
from wan_operator.health import Health
from wan_operator.kube import Kube
from wan_operator.kubeconfig import connect
from wan_operator.metrics import Metrics
from wan_operator.settings import Settings


@asynccontextmanager
async def deaf_operator(settings: Settings) -> AsyncIterator[tuple[Controller, Health]]:
    """All of the operator but its watches."""
    metrics = Metrics()
    api = await connect()
    kube = Kube(api, metrics, TokenBucket(100).spend, "deaf")
    async with aiohttp.ClientSession() as http:
        controller = Controller(kube, settings, metrics, http)
        health = Health(metrics)
        health.controller = controller
        health.connected = True
        beating = asyncio.create_task(health.beat())
        running = asyncio.create_task(controller.run())
        try:
            yield controller, health
        finally:
            controller.stop()
            await running
            beating.cancel()
            await kube.close()


async def test_without_any_watch_the_sweep_brings_a_run_to_its_end(
    kubernetes: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig))
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 2.0)
    settings = Settings(
        runtime_image="x",
        operator_image="x",
        namespace=namespace,
        watch_namespaces=(namespace,),
        store_endpoint="http://minio:9000",
        store_bucket="wan",
        store_secret="minio",
        identity="deaf",
        sweep_seconds=1.0,
    )
    cluster = Cluster(kubernetes, namespace)
    async with deaf_operator(settings) as (_, health):
        await asyncio.to_thread(cluster.create, "demo")
        await asyncio.to_thread(cluster.walk, "demo", *STEPS)
        await asyncio.to_thread(cluster.wait_condition, "demo", "Complete")
        assert not health.waits_for()

        def noticed() -> bool:
            return any("delivers nothing" in problem for problem in health.problems())

        await asyncio.to_thread(eventually, noticed, "liveness to notice")
