"""How end-to-end tests speak to a service."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import openai
import pytest

from services import sdk


class Models(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"id": "there"}'
        self.send_response(200 if self.path.endswith("there") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def requested(url: str) -> None:
    client = sdk(url, "key")
    assert client.models.retrieve("there").id == "there"
    client.models.retrieve("absent")


def test_a_request_that_failed_fails_no_later_test(url: str) -> None:
    """Of a socket that is collected open, pytest makes an error of the test that runs then."""
    gc.collect()
    with pytest.raises(openai.NotFoundError) as failure:
        requested(url)
    for generation in (0, 1):  # while the failure is kept, as pytest does
        gc.collect(generation)
    del failure
    gc.collect()
