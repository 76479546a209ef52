"""One PostgreSQL server for all tests of a run; a service of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def service() -> str:
    """Queues of other services see nothing of this one."""
    return f"team/{uuid4().hex}"
