"""In which order unit tests run, and the store that they share."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator

import pytest

from object_store import ObjectStore

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # as every command of the runtime

LONG = (
    "test_resume",
    "test_worker_service",
    "test_worker_process",
    "test_whole",
    "test_worker_ranks",
)
"""Files whose tests each start several processes of torch."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """No garbage is collected while the modules under test are imported, as in the pods: see
    `wan_runtime.process.imports`."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """pytest-xdist deals each of its processes an equal stretch of the list: the long files are
    spread over the beginnings, and what is left to share out at the end is short."""
    count: int = getattr(config, "workerinput", {}).get("workercount", 1)
    size = len(items) // count
    stretches: list[list[pytest.Item]] = [[] for _ in range(count)]
    for number, name in enumerate(LONG):
        stretches[number % count] += [item for item in items if item.path.stem == name]
    short = [item for item in items if item.path.stem not in LONG]
    for stretch in stretches:
        room = size - len(stretch)
        stretch += short[:room]
        del short[:room]
    items[:] = [item for stretch in stretches for item in stretch] + short


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One MinIO for all tests; those that kill it start their own."""
    with ObjectStore(tmp_path_factory.mktemp("minio")) as running:
        yield running
