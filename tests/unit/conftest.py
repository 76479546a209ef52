"""In which order unit tests run, and the store that they share."""

from __future__ import annotations

import atexit
import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from object_store import ObjectStore

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # as every command of the runtime

SHARED = (
    {"encoded21", "encoded22", "exported21", "exported22", "full21", "mixed21"},
    {"video_service"},
    {"whole"},
)
"""Fixtures that each process would make anew, by seconds of training or of torch's processes: all
files that use one of a set are for one process, which begins with them."""


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
    """pytest-xdist deals each of its processes an equal stretch of the list: files that share a
    fixture begin one, and what is left to share out at the end is short."""
    count: int = getattr(config, "workerinput", {}).get("workercount", 1)
    size = len(items) // count
    used: dict[Path, set[str]] = {}
    for item in items:
        used.setdefault(item.path, set()).update(_fixtures(item))
    stretches: list[list[pytest.Item]] = [[] for _ in range(count)]
    short: list[pytest.Item] = []
    for item in items:
        found = (n for n, shared in enumerate(SHARED) if shared & used[item.path])
        number = next(found, None)
        (short if number is None else stretches[number % count]).append(item)
    for stretch in stretches:
        room = max(0, size - len(stretch))
        stretch += short[:room]
        del short[:room]
    items[:] = [item for stretch in stretches for item in stretch] + short


def _fixtures(item: pytest.Item) -> set[str]:
    """Names of fixtures, those that parameters name among them."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {*getattr(item, "fixturenames", ()), *(p for p in parameters if isinstance(p, str))}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands set up the logging of their process: the next test must not meet that."""
    loggers = [logging.getLogger(), logging.getLogger("wan_runtime.data.review")]
    handlers, levels = list(loggers[0].handlers), [logger.level for logger in loggers]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One MinIO for all tests; those that kill it start their own."""
    with ObjectStore(tmp_path_factory.mktemp("minio")) as running:
        yield running
