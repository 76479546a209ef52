"""A service with an OpenAI videos API that answers as a test says. No GPU, no queue."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wan_runtime.serving.gateway.video_request import Ask, of_fields

Answer = tuple[int, dict[str, str], dict[str, Any]]


class VideosService:
    """Takes each request as the gateway does; a video is completed at the second poll."""

    def __init__(self, video: bytes) -> None:
        self.video = video
        self.asked: list[Ask] = []
        self.keys: list[str | None] = []
        self.pictures: list[bytes] = []
        self.refusals: list[Answer] = []
        """Answers to the next requests that create, in place of a video."""
        self.failing: dict[str, dict[str, str]] = {}
        """Prompt -> error of the video."""
        self.completed: dict[str, Any] = {}
        """Further fields of videos that are completed."""
        self.authorization: set[str | None] = set()
        self._polls: dict[str, int] = {}
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[VideosService]:
        """Serve on a free port of loopback."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                service.authorization.add(self.headers["Authorization"])
                self._send(*service._create(self.headers, self.rfile.read(length)))

            def do_GET(self) -> None:
                parts = self.path.split("/")
                if parts[-1] == "content":
                    self._bytes(200, {"Content-Type": "video/mp4"}, service.video)
                else:
                    self._send(*service._poll(parts[-1]))

            def _send(self, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
                self._bytes(status, headers, json.dumps(body).encode())

            def _bytes(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _create(self, headers: Any, body: bytes) -> Answer:
        if self.refusals:
            return self.refusals.pop(0)
        kind = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(kind + body)
        fields = {}
        for part in form.iter_parts():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            if name == "input_reference":
                self.pictures.append(content)
            else:
                fields[name] = content.decode()
        ask, _ = of_fields(fields, uploaded=True)
        self.asked.append(ask)
        self.keys.append(headers["Idempotency-Key"])
        return 200, {}, {"id": f"video_{len(self.asked) - 1}", "status": "queued"}

    def _poll(self, video_id: str) -> Answer:
        polls = self._polls[video_id] = self._polls.get(video_id, 0) + 1
        ask = self.asked[int(video_id.removeprefix("video_"))]
        if (error := self.failing.get(ask.prompt)) is not None:
            return 200, {}, {"id": video_id, "status": "failed", "error": error}
        video = {"id": video_id, "status": "in_progress"}
        if polls > 1:
            video |= {"status": "completed", **self.completed}
        return 200, {"openai-poll-after-ms": "1500"}, video
