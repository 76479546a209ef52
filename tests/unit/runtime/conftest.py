"""Fixtures of the runtime's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One MinIO for all tests; those that kill it start their own."""
    with ObjectStore(tmp_path_factory.mktemp("minio")) as running:
        yield running


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right ones, where a Store looks for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


@pytest.fixture
def store(server: ObjectStore, credentials: None) -> Store:
    """A store that gives up after a second."""
    return Store.connect(server.spec(), patience=Patience(seconds=1))
