"""Gateways over one PostgreSQL and MinIO for all tests of a run; each test has its own service.

A plugin of the test modules (`pytest_plugins`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from postgres import Postgres
from running_gateway import Hands, RunningGateway, service_spec
from wan_runtime.serving.queue import reports, workers
from wan_runtime.serving.webhook_secret import WebhookSecret


@pytest.fixture(scope="session")
def database(postgres: Postgres) -> str:
    return postgres.create("gateways")


@pytest.fixture
def make_gateway(
    server: ObjectStore,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., RunningGateway]]:
    """`make_gateway(**fields of the ServiceSpec)` starts one; it stops with the test. One sign of
    life of a worker that a test makes up holds until then."""
    for module in (reports, workers):
        monkeypatch.setattr(module, "WORKER_SECONDS", 900.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with ExitStack() as stack:

        def make(
            *,
            url: str = database,
            secret: str | None = None,
            secret_file: Path | None = None,
            patience: float = 10,
            is_admitted: bool = True,
            **change: Any,
        ) -> RunningGateway:
            service = service_spec(server, f"s{uuid4().hex[:12]}", **change)
            keys = tmp_path / service.name
            keys.mkdir()
            signing = WebhookSecret(secret or "", secret_file)
            made = RunningGateway(service, url, keys, signing, patience, is_admitted=is_admitted)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def make_hands() -> Iterator[Callable[[RunningGateway], Hands]]:
    with ExitStack() as stack:

        def make(gateway: RunningGateway) -> Hands:
            hands = Hands(gateway)
            stack.callback(hands.close)
            return hands

        yield make


@pytest.fixture
def gateway(make_gateway: Callable[..., RunningGateway]) -> RunningGateway:
    return make_gateway()


@pytest.fixture
def hands(make_hands: Callable[[RunningGateway], Hands], gateway: RunningGateway) -> Hands:
    return make_hands(gateway)


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as client:
        yield client


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that the test may kill."""
    with Postgres() as server:
        yield server


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[ObjectStore]:
    """A store that the test may kill."""
    with ObjectStore(tmp_path / "own-store") as store:
        yield store
