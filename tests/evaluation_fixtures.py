"""Fixtures of the tests of evaluations. A plugin (`pytest_plugins`), never imported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from evaluations import Evaluation
from object_store import ObjectStore
from wan_runtime.artifacts.store import Store
from wan_runtime.evaluation import score
from wan_runtime.evaluation.measuring import Measurers, measurers


@pytest.fixture(scope="session")
def processes() -> Iterator[Measurers]:
    """Processes that score clips, shared by all tests: each takes a second to start."""
    with measurers() as made:
        yield made


@pytest.fixture
def evaluation(
    store: Store,
    server: ObjectStore,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    processes: Measurers,
    monkeypatch: pytest.MonkeyPatch,
) -> Evaluation:
    monkeypatch.setattr(score, "measurers", lambda: nullcontext(processes))
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    return Evaluation(store, server.spec(), tmp_path / "runs", name)
