"""Client of a service's OpenAI videos API."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import certifi
import urllib3
from urllib3.exceptions import HTTPError

from wan_runtime import heartbeat
from wan_runtime.artifacts.patience import Patience, Retrier
from wan_runtime.contract.evaluation import ServiceAddress
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.no_answer import why

log = logging.getLogger(__name__)

POLL_AFTER_MS = "openai-poll-after-ms"
POLL_SECONDS = 2.0
"""Seconds between two polls of a video of a service that states none."""
LONGEST_PAUSE = 300.0
"""Seconds of a Retry-After that are waited, at most, before asking again."""
BUSY_SECONDS = 6 * 3600.0
"""Seconds that a full queue is waited for."""
STUCK_SECONDS = 1800.0
"""Seconds without any change of a video, after which it counts as failed."""
CHUNK = 2**20
AWAY = frozenset({502, 503, 504})
"""Answers of a service that is about to come back."""
DENIED = frozenset({401, 403})


class Refused(Exception):
    """The service does not make this video, in its words."""


class Client:
    """Asks, waits and downloads. An outage shorter than `Patience.seconds` is waited out."""

    def __init__(
        self, service: ServiceAddress, heard: Callable[[str], None] = lambda _: None
    ) -> None:
        """`heard`: as that of a Patience. Raises InputError(JOB_INVALID), if the file with the key
        cannot be read."""
        self._url = service.url.rstrip("/")
        self._patience = Patience(heard=heard)
        self._headers = {} if service.key_file is None else _authorization(service.key_file)
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(
                connect=self._patience.connect_seconds, read=self._patience.read_seconds
            ),
            cert_reqs="CERT_REQUIRED",
            ca_certs=certifi.where(),
            retries=urllib3.Retry(total=None, connect=0, read=0, other=0, status=0, redirect=3),
        )

    def create(self, fields: Mapping[str, str], picture: bytes, idempotency_key: str) -> str:
        """Ask for a video from a PNG. Returns its id. A full queue is waited for.

        Raises:
            Refused: if the service does not take the request.
            InputError: JOB_INVALID, if it refuses the key.
            InfrastructureError: if it does not answer.
        """
        form = {**fields, "input_reference": ("first-frame.png", picture, "image/png")}
        answer = self._json(
            "POST", "/v1/videos", fields=form, headers={"Idempotency-Key": idempotency_key}
        )
        if not answer.get("id"):
            raise Refused("the service answered without the id of a video")
        return str(answer["id"])

    def wait(self, video_id: str) -> dict[str, Any]:
        """What the service says of the video once it is completed. Raises as `create`."""
        clock, before = self._patience.clock, None
        changed = clock()
        while True:
            response = self._answered("GET", f"/v1/videos/{video_id}")
            video = _parsed(response)
            if video.get("status") == "completed":
                return video
            if video.get("status") == "failed":
                raise Refused(_words(video.get("error")) or "the video failed, without a reason")
            now = {name: video.get(name) for name in ("status", "progress", "step")}
            now["place"] = video.get("queue_position")
            if now != before:
                before, changed = now, clock()
            elif clock() - changed > STUCK_SECONDS:
                raise Refused(
                    f"the video is {video.get('status')} and has not changed for "
                    f"{STUCK_SECONDS / 60:.0f} minutes"
                )
            self._patience.sleep(_seconds(response.headers.get(POLL_AFTER_MS), POLL_SECONDS))

    def download(self, video_id: str, path: Path) -> None:
        """Write the finished video to a file. Raises as `create`."""
        response = self._answered("GET", f"/v1/videos/{video_id}/content")
        path.write_bytes(response.data)

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        return _parsed(self._answered(method, path, **request))

    def _answered(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **request: Any
    ) -> urllib3.BaseHTTPResponse:
        """A good answer, after whatever has to be waited for."""
        retrier = Retrier(self._patience, f"{method} {self._url}{path}", self._url)
        every = {**self._headers, **(headers or {})}
        begun = self._patience.clock()
        while True:
            try:
                response = self._pool.request(
                    method, f"{self._url}{path}", headers=every, **request
                )
            except HTTPError as error:
                if not retrier.wait(why(error)):
                    raise self._away(why(error)) from error
                continue
            if response.status not in AWAY:
                heartbeat.beat()
                retrier.progressed()
            if response.status < 300:
                return response
            said = _said(response)
            if response.status == 429:
                if self._patience.clock() - begun > BUSY_SECONDS:
                    raise Refused(said)
                pause = _seconds(response.headers.get("Retry-After"), POLL_SECONDS, per_second=1)
                log.info("the service is busy: again in %.0f s: %s", pause, said)
                self._patience.sleep(min(pause, LONGEST_PAUSE))
            elif response.status in AWAY:
                if not retrier.wait(f"HTTP {response.status}"):
                    raise self._away(said)
            elif response.status in DENIED:
                raise InputError(Reason.JOB_INVALID, f"{self._url} refuses the API key: {said}")
            else:
                raise Refused(said)

    def _away(self, cause: str) -> InfrastructureError:
        return InfrastructureError(
            Reason.SERVICE_UNREACHABLE, f"the service at {self._url} does not answer: {cause}"
        )


def _authorization(path: str) -> dict[str, str]:
    try:
        key = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            Reason.JOB_INVALID, f"the API key of the service cannot be read from {path}"
        ) from error
    return {"Authorization": f"Bearer {key}"}


def _seconds(stated: str | None, default: float, *, per_second: float = 1000) -> float:
    """A wait that a header states in milliseconds, or in other parts of a second."""
    try:
        return max(0.1, float(stated or "") / per_second)
    except ValueError:
        return default


def _parsed(response: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    """Raises Refused, if the answer is no JSON object."""
    try:
        content = json.loads(response.data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise Refused(f"the service answered {response.status} with what is no JSON object")
    return content


def _said(response: urllib3.BaseHTTPResponse) -> str:
    """The service's own words."""
    try:
        content = json.loads(response.data)
    except ValueError:
        content = None
    words = _words(content.get("error")) if isinstance(content, dict) else ""
    return words or f"HTTP {response.status} without a reason"


def _words(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    parts = (error.get("code"), error.get("message"))
    return ": ".join(str(part) for part in parts if part)
