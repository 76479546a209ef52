"""A gateway on a port of loopback, real database and store, and hands in a worker's place."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import NAMESPACE_DNS, uuid5

import httpx
import uvicorn

from object_store import BUCKET, ObjectStore
from starting import until_ready
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.rendering.order import Advance, Job, Problem, Rendered, Stage
from wan_runtime.serving.gateway import protocol
from wan_runtime.serving.gateway.app import create_app
from wan_runtime.serving.gateway.predict import Predictor
from wan_runtime.serving.gateway.upkeep import Upkeep
from wan_runtime.serving.planned import Workers
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.webhook_secret import WebhookSecret

LEASE = 600.0
"""Seconds for which hands keep a job, with other work at hand; a worker renews far shorter ones."""
KEYS = {"app": "wan-key-app", "team": "wan-key-team"}
T = TypeVar("T")


def service_spec(server: ObjectStore, name: str, **change: Any) -> ServiceSpec:
    """A small service of Wan2.2-I2V-Tiny."""
    return ServiceSpec.model_validate(
        {
            "namespace": "media",
            "name": name,
            "uid": str(uuid5(NAMESPACE_DNS, name)),
            "model": {"preset": "Wan2.2-I2V-Tiny"},
            "store": server.spec(prefix="serving").model_dump(),
            "sizes": [{"width": 128, "height": 96}, {"width": 96, "height": 128}],
            "defaults": {"frames": 17, "steps": 4},
            "adapters": [{"name": "fairy", "files": {"HighNoise": f"s3://{BUCKET}/fairy"}}],
            "effects": [
                {
                    "name": "anime-fairy",
                    "adapters": [{"name": "fairy"}],
                    "prompt": "fairy, {prompt}",
                    "description": "Turns a photo into an anime fairy.",
                }
            ],
            **change,
        }
    )


def plain(url: str, headers: dict[str, str] | None = None) -> httpx.Client:
    """A client of http:// alone: reading the authorities of TLS takes longer than most requests."""
    return httpx.Client(base_url=url, headers=headers, timeout=60, verify=False)


class Server(uvicorn.Server):
    """Stops at once; uvicorn's own looks every tenth of a second at whether it is to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._stopped.wait()

    def stop(self) -> None:
        """From another thread, once it has started."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stopped.set)


class RunningServer:
    """An application that uvicorn serves in a thread, for as long as it is entered."""

    def _run(self, config: uvicorn.Config, listener: socket.socket) -> None:
        """Prepare to serve on a socket. Bound at once: what starts before uvicorn listens takes
        ports too."""
        self._server = Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})

    @property
    def started(self) -> bool:
        """Whether it serves."""
        return self._server.started

    def __enter__(self) -> Self:
        self._thread.start()
        until_ready(type(self).__name__, lambda: self.started, self._thread.is_alive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        self._thread.join()


class RunningGateway(RunningServer):
    """Uvicorn in a thread of its own."""

    def __init__(
        self,
        service: ServiceSpec,
        database: str,
        folder: Path,
        secret: WebhookSecret,
        patience: float,
        *,
        is_admitted: bool = True,
    ) -> None:
        """`is_admitted`: by its database, which is waited for."""
        for name, key in KEYS.items():
            (folder / name).write_text(key)
        self.service, self.database, self.keys = service, database, folder
        self.store = Store.connect(service.store, patience=Patience(seconds=2))
        self.rollout = folder.parent / f"{folder.name}-rollout"
        self.app = create_app(
            service,
            database=database,
            store=self.store,
            keys=folder,
            webhook_secret=secret,
            rollout=self.rollout,
            patience=patience,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        http = protocol.of(self.app)
        config = uvicorn.Config(self.app, http=http, log_config=None, lifespan="on")
        self._is_admitted = is_admitted
        self._run(config, listener)

    @property
    def started(self) -> bool:
        return self._server.started and (self.serves or not self._is_admitted)

    @property
    def serves(self) -> bool:
        """Whether its database has admitted it."""
        return hasattr(self.app.state, "gateway")

    def page(self, path: str) -> httpx.Response:
        """Of those that only the cluster may see."""
        with plain(f"http://127.0.0.1:{self.app.state.pages.port}") as client:
            return client.get(path)

    def http(self, owner: str = "app") -> httpx.Client:
        """A client with a key."""
        return plain(self.url, {"Authorization": f"Bearer {KEYS[owner]}"})


class Hands:
    """Does by hand what a worker does: the queue's own methods, on a loop in a thread."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.queue = self.do(Queue.of(gateway.service, gateway.database))

    def do(self, action: Coroutine[Any, Any, T]) -> T:
        """Its result."""
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(60)

    def claim(self) -> Job:
        """The next job, which there must be."""
        job = self.do(self.queue.claim("hands", LEASE))
        assert job is not None, "nothing waits"
        return job

    def advance(self, job: Job, step: int) -> bool:
        """One more step of denoising; whether the job is to be cancelled."""
        told = Advance(stage=Stage.DENOISING, step=step, steps=job.order.steps, eta_seconds=1.0)
        return self.do(self.queue.heartbeat(job.id, "hands", told, LEASE)).cancel_requested

    def complete(
        self, job: Job, video: bytes = b"mp4" * 100, first_frame: bytes | None = None
    ) -> None:
        """Upload something and say that it is done."""
        folder = f"{self._gateway.service.prefix}/videos/{job.id}"
        files = {"video": f"{folder}/video.mp4", "thumbnail": f"{folder}/thumbnail.webp"}
        self._gateway.store.put_bytes(files["video"], video)
        assert job.order.image is not None
        self._gateway.store.put_bytes(
            files["thumbnail"], self._gateway.store.get_bytes(job.order.image)
        )
        if first_frame is not None:
            files["first_frame"] = f"{folder}/first-frame.png"
            self._gateway.store.put_bytes(files["first_frame"], first_frame)
        rendered = Rendered(
            files=files, bytes=len(video), sha256="0" * 64, seconds={Stage.DENOISING: 2.0}
        )
        assert self.do(self.queue.complete(job.id, "hands", rendered))

    def fail(self, job: Job, code: str, message: str) -> None:
        """Say that it failed."""
        problem = Problem(code=code, message=message)
        assert self.do(self.queue.fail(job.id, "hands", problem))

    def tidy(self) -> None:
        """A round of the gateway's upkeep."""
        self.do(self.upkeep().round())

    def upkeep(self) -> Upkeep:
        """On this loop."""
        predictor = Predictor(Workers(preset="Wan2.2-I2V-Tiny"))
        return Upkeep(self.queue, self._gateway.store, predictor, self._gateway.service.prefix)

    def close(self) -> None:
        """End the loop."""
        self.do(self.queue.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
