"""Requests to a gateway at random, after its own description: as Schemathesis makes them, right and
wrong; with an odd character in one place; and broken off."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlsplit

import requests  # noqa: TID251 - what Schemathesis sends with
import schemathesis
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

Case = schemathesis.Case[Any]
CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
ODD = (
    "\0", "\x1f", "\x7f", "\r\n", "\xff", "\u2028", "\u202e", "\ufffe", "\U0001d54f", "\ud83d",
    "%", "%00", "%zz", "\\", "\\u0000", "'", '"', "..", "/", "//", "?", "#", ";", "&", "{}", "[]",
    "NaN", "-1", "1e999", "9" * 5000, "x" * 9000,
)  # fmt: skip
METHODS = ("PATCH", "OPTIONS", "TRACE", "HEAD", "get", "MADE-UP", "\xff", "")
SECONDS = 60


class Way(StrEnum):
    """What is done to a case before it is sent."""

    PLAIN = "plain"
    ODD_TARGET = "odd target"
    ODD_HEADER = "odd header"
    ODD_BODY = "odd body"
    ODD_METHOD = "odd method"
    ABORTED = "aborted"


@dataclass
class Tried:
    """What was sent, and what came of it."""

    cases: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """By way and status; 0 for a line that closed without an answer."""
    faults: list[str] = field(default_factory=list)
    """Requests that were answered with 5xx."""
    slowest: tuple[float, str] = (0.0, "")
    """Seconds of the slowest, and which it was."""


def try_out(
    url: str,
    key: str,
    examples: int,
    *,
    video: str | None = None,
    seed: int | None = None,
) -> Tried:
    """As many cases of each operation, right ones and wrong ones.

    `video`: a completed one, which half of the paths that have an id name. `seed`: None for the
    same cases each time.
    """
    quick = settings(
        max_examples=examples,
        deadline=None,
        derandomize=seed is None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    tried = Tried()
    headers = {"Authorization": f"Bearer {key}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    # Else most requests have a key that it makes up, and get no further.
    schema.config.generation.with_security_parameters = False
    for each in schema.get_all_operations():
        assert isinstance(each, Ok), each.err()
        operation = each.ok()
        # Any text is an id: there is none to get wrong.
        wrong = operation.body or operation.query or operation.headers
        for mode in GenerationMode if wrong else (GenerationMode.POSITIVE,):
            named = {} if video is None or operation.method == "delete" else {"video_id": video}
            strategies = [usable(operation.as_strategy(generation_mode=mode))]
            if named and "{video_id}" in operation.path:
                one = operation.as_strategy(generation_mode=mode, path_parameters=named)
                strategies.append(usable(one))

            @quick
            @given(case=st.one_of(strategies), chance=st.randoms())
            def check(case: Case, chance: random.Random) -> None:
                way = chance.choice(list(Way))
                began = time.monotonic()
                if way is Way.PLAIN:
                    answer = case.call_and_validate(
                        headers=headers, checks=[*CHECKS], timeout=SECONDS
                    )
                    status = answer.status_code
                else:
                    status = _sent(url, _changed(_wire(case, url, headers), way, chance), way)
                tried.cases += 1
                tried.statuses[f"{way} {status}"] += 1
                took = time.monotonic() - began
                tried.slowest = max(tried.slowest, (took, f"{way} {case.method} {case.path}"))
                if status >= 500:
                    tried.faults.append(f"{way}: {case.method} {case.path} {status}")

            (check if seed is None else with_seed(seed)(check))()
    return tried


@st.composite
def usable(draw: st.DrawFn, cases: st.SearchStrategy[Case]) -> Case:
    """Without those that Schemathesis 4.32.5 cannot check itself: it hands its own class of texts,
    Binary, to jsonschema-rs, which takes none but str."""
    try:
        return draw(cases)
    except ValueError as error:
        if "Unsupported type: 'Binary'" not in str(error):
            raise
        reject()


@dataclass
class Wire:
    """A request as it goes over the line."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def head(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _wire(case: Case, url: str, headers: dict[str, str]) -> Wire:
    prepared = requests.Request(**case.as_transport_kwargs(url, headers)).prepare()
    body = prepared.body or b""
    if isinstance(body, str):
        body = body.encode()
    assert isinstance(body, bytes)
    found = [(name, _text(value)) for name, value in prepared.headers.items()]
    found = [each for each in found if each[0].lower() not in ("connection", "content-length")]
    plain = [("Host", urlsplit(url).netloc), ("Connection", "close")]
    if body:
        plain.append(("Content-Length", str(len(body))))
    return Wire(prepared.method or "", prepared.path_url, [*plain, *found], body)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _changed(wire: Wire, way: Way, chance: random.Random) -> Wire:
    odd = chance.choice(ODD)
    if way is Way.ODD_METHOD:
        wire.method = chance.choice(METHODS)
    elif way is Way.ODD_TARGET:
        if chance.random() < 0.8:
            odd = quote(odd.encode("utf-8", "surrogatepass"), safe="/?&#%")
        wire.target = _put(wire.target, odd, chance)
    elif way is Way.ODD_HEADER:
        # Another length or Connection would leave the line open, and this waiting.
        kept = [each for each in wire.headers if each[0] in ("Connection", "Content-Length")]
        others = [each for each in wire.headers if each not in kept]
        others.append(("Idempotency-Key", "key"))
        name, value = others.pop(chance.randrange(len(others)))
        wire.headers = [*kept, *others, (name, _put(value, odd, chance))]
    elif way is Way.ODD_BODY:
        at = chance.randrange(len(wire.body) + 1)
        odd_bytes = odd.encode("utf-8", "surrogatepass")
        wire.body = wire.body[:at] + odd_bytes + wire.body[at:]
        wire.headers = [each for each in wire.headers if each[0] != "Content-Length"]
        wire.headers.append(("Content-Length", str(len(wire.body))))
    return wire


def _put(text: str, odd: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + odd + text[at:]


def _sent(url: str, wire: Wire, way: Way) -> int:
    """The status of the answer; 0 for none."""
    address = urlsplit(url)
    assert address.hostname is not None
    line = socket.create_connection((address.hostname, address.port or 80), timeout=SECONDS)
    with line, suppress(ConnectionError):
        if way is Way.ABORTED:
            whole = wire.head() + wire.body
            line.sendall(whole[: max(1, len(whole) - 1 - len(wire.body) // 2)])
            return 0
        line.sendall(wire.head() + wire.body)
        start = b"".join(_parts(line)).split(b" ", 2)
        return int(start[1]) if len(start) > 1 else 0
    return 0


def _parts(line: socket.socket) -> Iterator[bytes]:
    with suppress(ConnectionError):
        while part := line.recv(65536):
            yield part
