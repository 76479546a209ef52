"""The network around the operator: a wire that a test can cut, a pod that answers."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.apiserver import ApiServer


@dataclass
class Wire:
    """The network between the operator and the API server: bytes pass through until a test cuts
    it."""

    server: ApiServer
    port: int = 0
    cut: bool = False
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextmanager
    def laid(self) -> Iterator[Wire]:
        ready = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        thread.start()
        assert ready.wait(10)
        yield self
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(10)

    def kubeconfig(self) -> Path:
        config = json.loads(self.server.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        path = self.server.folder / f"kubeconfig-{self.port}"
        path.write_text(json.dumps(config))
        return path

    def breaks(self) -> None:
        """Every connection is reset and none is taken."""
        self.cut = True
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._reset)

    def heals(self) -> None:
        self.cut = False

    def _reset(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        self.cut = True
        self._reset()
        listener.close()

    async def _connect(self, near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        if self.cut:
            answer.transport.abort()
            return
        far, ask = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._open |= {answer, ask}
        await asyncio.gather(pump(near, ask), pump(far, answer))
        self._open -= {answer, ask}


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


def own_address() -> str:
    """Of loopback, and of this process alone: pods answer at a port that is fixed."""
    pid = os.getpid()  # of 22 bits at most
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


@contextmanager
def progress_of_a_pod(answer: Callable[[], str]) -> Iterator[str]:
    """The address of something that answers as a pod's :9400/progress does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer().encode()
            self.send_response(200 if self.path == "/progress" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    address = own_address()
    with http.server.ThreadingHTTPServer((address, 9400), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield address
        finally:
            server.shutdown()
