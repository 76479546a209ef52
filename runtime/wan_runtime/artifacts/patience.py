"""An HTTP pool that waits for a store that is away.

Patience sits at the single request, not around a whole transfer: each part of a large upload is
sent again by itself, so an outage in the middle of a 300 MB file costs one part.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import certifi
import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from wan_runtime import heartbeat
from wan_runtime.no_answer import why

log = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0
"""Also bounds the sending of one part: Python counts a whole `sendall` against this timeout."""
READ_SECONDS = 30.0
TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long and how often to try again, and who hears of it."""

    seconds: float = 180.0
    """From the first failure to giving up: a store that restarts must not fail a step."""
    first_wait: float = 0.5
    longest_wait: float = 10.0
    connect_seconds: float = CONNECT_SECONDS
    read_seconds: float = READ_SECONDS
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    heard: Callable[[str], None] = lambda _: None
    """Called with the server's address and the cause while a request waits, and with an empty text
    once one is answered. In any thread."""


class Retrier:
    """Waits between attempts of one operation; `wait` returns False once patience is spent."""

    def __init__(self, patience: Patience, what: str, server: str = "") -> None:
        """`server`: address of what the operation asks."""
        self._patience = patience
        self._what = what
        self._server = server
        self._failures = 0
        self._since: float | None = None

    def wait(self, cause: str) -> bool:
        """Sleep before the next attempt. False: give up, nothing was slept."""
        now = self._patience.clock()
        self._since = now if self._since is None else self._since
        left = self._patience.seconds - (now - self._since)
        if left <= 0:
            return False
        bound = min(self._patience.longest_wait, self._patience.first_wait * 2.0**self._failures)
        # Jitter: the pods of a cluster must not all return to a recovering store at once.
        pause = min(left, bound * random.uniform(0.5, 1.0))
        self._failures += 1
        log.warning(
            "%s failed (%s): attempt %d follows in %.1f s, giving up in %.0f s",
            self._what,
            cause,
            self._failures + 1,
            pause,
            left,
        )
        if self._server:
            self._patience.heard(f"{self._server}: {cause}")
        self._patience.sleep(pause)
        return True

    def progressed(self) -> None:
        """The store answered: the next failure is a new outage."""
        if self._server and self._since is not None:
            self._patience.heard("")
        self._failures, self._since = 0, None


class PatientPool(urllib3.PoolManager):
    """Sends each request again, unchanged, until it is answered or patience is spent.

    All requests of the S3 API that we make may be repeated; a signature stays valid for 15 minutes.
    """

    def __init__(self, patience: Patience, *, ca_file: str | None = None) -> None:
        super().__init__(
            num_pools=4,
            maxsize=16,
            timeout=urllib3.Timeout(connect=patience.connect_seconds, read=patience.read_seconds),
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_file or certifi.where(),
            retries=False,
        )
        self._patience = patience

    def urlopen(  # type: ignore[override]  # urllib3 types the wider signature of its base
        self, method: str, url: str, redirect: bool = True, **kwargs: Any
    ) -> urllib3.BaseHTTPResponse:
        """As PoolManager.urlopen. Raises urllib3 HTTPError once patience is spent, or at once for a
        certificate that is not trusted, which no waiting heals."""
        parts = urllib3.util.parse_url(url)
        server = f"{parts.scheme}://{parts.netloc}"
        retrier = Retrier(self._patience, f"{method} {parts.path or '/'}", server)
        kwargs["retries"] = False
        while True:
            try:
                response = super().urlopen(method, url, redirect, **kwargs)
            except HTTPError as error:
                if is_untrusted(error) or not retrier.wait(why(error)):
                    raise
                continue
            if response.status not in TRANSIENT_STATUS:
                heartbeat.beat()
                retrier.progressed()
                return response
            if not retrier.wait(f"HTTP {response.status}"):
                return response
            response.drain_conn()
            response.release_conn()


def is_untrusted(error: BaseException) -> bool:
    """Whether the server's certificate was refused."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        error = error.reason
    return isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
