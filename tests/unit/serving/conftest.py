"""One PostgreSQL for all tests of a run; a service of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from orders import PREFIX
from postgres import Postgres
from wan_runtime.serving.queue.queue import Queue


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def service() -> str:
    """Queues of other services see nothing of this one."""
    return f"team/{uuid4().hex}"


@pytest_asyncio.fixture
async def queue(postgres: Postgres, service: str) -> AsyncIterator[Queue]:
    opened = await Queue.open(postgres.url(), service, prefix=PREFIX)
    yield opened
    await opened.close()
