"""Each request has an id and exactly one answer, which is counted; none ends in a traceback of the
server below."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_runtime.serving.gateway.metrics import Metrics
from wan_runtime.serving.gateway.refusals import answer
from wan_runtime.serving.problems import Code, Refusal

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
"""Header of every answer; OpenAI's SDK has it as `_request_id`. A proxy's own is kept."""
GIVEN = re.compile(r"[A-Za-z0-9._-]{1,128}")
HEAD = "wan.head"
"""Key of a scope whose client sent HEAD, which is answered as GET without its body."""
QUIET = ("GET", "HEAD")
"""Methods whose good answers are not logged: clients poll."""

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


class Stamp(logging.Filter):
    """Adds the id of the request that a log line belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps every record."""
        request_id = _current.get()
        if request_id is not None:
            record.request_id = request_id
        return True


def new_id() -> str:
    """`req_` and 32 hexadecimal digits."""
    return f"req_{uuid4().hex}"


def without_body(scope: Scope) -> bool:
    """Whether the client sent HEAD, so that what a handler would stream is never read."""
    return HEAD in scope


class Requests:
    """ASGI middleware around all others. Not Starlette's decorator: it reads bodies in a task of
    its own, where a refusal would be wrapped."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = _current.set(_id_of(scope))
        try:
            await _Exchange(scope, receive, send, self._metrics).run(self._app)
        finally:
            _current.reset(token)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, metrics: Metrics) -> None:
        self._method, self._receive, self._send = scope["method"], receive, send
        self._metrics = metrics
        # The server's own scope still says HEAD, by which it sends no body.
        self._scope = {**scope, "method": "GET", HEAD: True} if self._method == "HEAD" else scope
        self._whole = False
        """The body has arrived to its end."""
        self._aborted = False
        self._status: int | None = None

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._body, self._answer)
        except Exception as error:
            # Not left to Starlette and uvicorn: each would log its own traceback, uncounted.
            if not self._aborted:
                log.error("a request failed", exc_info=error)
                if self._status is None:
                    refusal = Refusal(Code.INTERNAL, "an error of ours; the gateway's log has it")
                    await answer(refusal)(self._scope, self._body, self._answer)
        self._log()

    async def _body(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._whole = not message.get("more_body", False)
        elif not self._whole and self._status is None:
            self._aborted = True
        return message

    async def _answer(self, message: Message) -> None:
        if self._aborted:
            return  # nobody reads it
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = _current.get() or new_id()
            if self._status == 500:
                # The next request of this client should not meet what this one left behind.
                headers["Connection"] = "close"
            self._metrics.answered(self._method, self._route, self._status)
        await self._send(message)

    @property
    def _route(self) -> str:
        return getattr(self._scope.get("route"), "path", "unknown")

    def _log(self) -> None:
        path = self._scope.get("raw_path", b"").decode("latin-1")[:200]
        if self._aborted:
            log.info("%s %s: the client left before its request had arrived", self._method, path)
        elif self._status is not None and (self._status >= 400 or self._method not in QUIET):
            log.info("%s %s: %d", self._method, path, self._status)


def _id_of(scope: Scope) -> str:
    """The client's, where it is short and plain; or a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID.encode() and GIVEN.fullmatch(value.decode("latin-1")):
            return str(value.decode())
    return new_id()
