"""Answers to what is no HTTP, which uvicorn gives before the application sees anything."""

from __future__ import annotations

import json

import h11
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from wan_runtime.serving.gateway.metrics import Metrics
from wan_runtime.serving.gateway.requests import REQUEST_ID, new_id
from wan_runtime.serving.problems import Code, Refusal

NOT_HTTP = Refusal(Code.INVALID_REQUEST, "the request is no HTTP/1.1")


def of(app: FastAPI) -> type[H11Protocol]:
    """The protocol of the application's server."""
    metrics: Metrics = app.state.metrics

    class Protocol(H11Protocol):
        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                metrics.answered("other", "unknown", NOT_HTTP.status)
                self.transport.write(_answer(self.conn))
            # Else it is the rest of a body whose request has its answer already.
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True  # of a damaged body: its answer is this one
                self.cycle.message_event.set()
            self.transport.close()

    return Protocol


def _answer(connection: h11.Connection) -> bytes:
    body = json.dumps(NOT_HTTP.body()).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        REQUEST_ID: new_id(),
    }
    start = h11.Response(
        status_code=NOT_HTTP.status, headers=list(headers.items()), reason=b"Bad Request"
    )
    parts = (start, h11.Data(data=body), h11.EndOfMessage())
    return b"".join(connection.send(part) or b"" for part in parts)
