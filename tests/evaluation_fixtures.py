"""Fixtures of the tests of evaluations. A plugin (`pytest_plugins`), never imported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluations import Evaluation
from object_store import ObjectStore
from wan_runtime.artifacts.store import Store


@pytest.fixture
def evaluation(
    store: Store, server: ObjectStore, tmp_path: Path, request: pytest.FixtureRequest
) -> Evaluation:
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    return Evaluation(store, server.spec(), tmp_path / "runs", name)
