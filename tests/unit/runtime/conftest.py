"""Fixtures of the runtime's tests."""

from __future__ import annotations

import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store


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
