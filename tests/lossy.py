"""A network between client and server that loses answers."""

from __future__ import annotations

import asyncio
from types import TracebackType

CHUNK = 65536


class LossyNetwork:
    """A TCP forwarder on loopback."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._lose: bytes | None = None
        self.frozen = False
        """Nothing arrives any more, and no connection ends, as behind a switch that died."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> LossyNetwork:
        self._listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose_answer_to(self, request: bytes) -> None:
        """To the next request that holds this; the connection is cut. What it asked for was done,
        and the client can't know."""
        self._lose = request

    def url(self, direct: str) -> str:
        """Of the same server, over this network."""
        return direct.replace(f":{self._server_port}", f":{self.port}")

    @property
    def lost(self) -> bool:
        """Whether it was."""
        return self._lose is None

    async def _connected(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter
    ) -> None:
        server_in, server_out = await asyncio.open_connection("127.0.0.1", self._server_port)
        losing = asyncio.Event()

        async def requests() -> None:
            while data := await client_in.read(CHUNK):
                if self._lose is not None and self._lose in data:
                    self._lose = None
                    losing.set()
                if self.frozen:
                    await asyncio.Event().wait()
                server_out.write(data)

        async def answers() -> None:
            while data := await server_in.read(CHUNK):
                if losing.is_set():
                    return
                client_out.write(data)

        both = {asyncio.create_task(each()) for each in (requests, answers)}
        self._tasks |= both
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        client_out.close()
        server_out.close()
