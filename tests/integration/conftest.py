"""One API server for the whole session, a namespace of its own for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.apiserver import ApiServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Fails, never skips: without a server these tests would prove nothing."""
    assert "WAN_BIN" in os.environ, (
        "WAN_BIN must name a folder with etcd, kube-apiserver and kubectl"
    )
    with ApiServer.started(
        Path(os.environ["WAN_BIN"]), tmp_path_factory.mktemp("apiserver")
    ) as server:
        yield server


@pytest.fixture
def namespace(apiserver: ApiServer) -> str:
    name = f"test-{next(_numbers)}"
    apiserver.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name
