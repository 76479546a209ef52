"""When a store that does not answer is a fault of the gateway's surroundings."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import cast

import pytest

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import ModerationSpec
from wan_runtime.errors import InfrastructureError
from wan_runtime.serving.gateway import checks
from wan_runtime.serving.gateway.keys import Keys
from wan_runtime.serving.webhook_secret import WebhookSecret


class KeysThatAre:
    def missing(self) -> None:
        return None


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the store answers, probe by probe."""
    given: list[bool] = []

    def probe(store: Store, key: str) -> None:
        if not given.pop(0):
            raise InfrastructureError(Reason.STORE_UNREACHABLE, "http://s3.typo does not answer")

    monkeypatch.setattr(checks, "probe", probe)
    return given


async def found(answers: list[bool], *given: bool) -> list[list[str]]:
    """Reasons of the faults after each of these answers."""
    answers += given
    made = checks.Checks(cast(Store, None), "probe", cast(Keys, KeysThatAre()), WebhookSecret())
    reasons = []
    for _ in given:
        await made.take()
        reasons.append([fault.reason.value for fault in made.faults()])
    return reasons


async def test_a_store_that_has_never_answered_is_a_fault_at_once(answers: list[bool]) -> None:
    assert await found(answers, False, True) == [["StoreUnreachable"], []]


async def test_one_missing_answer_of_a_store_that_works_is_none(answers: list[bool]) -> None:
    assert await found(answers, True, False, True, False, False) == [
        *([], [], [], []),
        ["StoreUnreachable"],
    ]


async def test_moderation_that_nothing_is_made_without_has_to_answer(answers: list[bool]) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(405)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    answers += [True] * 6
    server = HTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}/check"
    needed, optional = (
        checks.Checks(
            cast(Store, None),
            "probe",
            cast(Keys, KeysThatAre()),
            WebhookSecret(),
            ModerationSpec(url=url, on_error=on_error),
        )
        for on_error in ("Refuse", "Allow")
    )
    thread = Thread(target=server.handle_request)
    thread.start()
    await needed.take()
    thread.join()
    assert not needed.faults(), "any answer will do"
    server.server_close()
    await needed.take()
    assert not needed.faults(), "one may be missing"
    await needed.take()
    [fault] = needed.faults()
    assert fault.reason.value == "ModerationUnreachable"
    assert fault.message == f"{url}, spec.moderation.url, does not answer: nothing listens there"
    await optional.take()
    await optional.take()
    assert not optional.faults()
