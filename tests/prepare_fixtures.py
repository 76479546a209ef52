"""Fixtures of the tests of `prepare`. A plugin (`pytest_plugins`), never imported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import videos
from prepare_bench import Bench, Row
from wan_runtime.artifacts.store import Store


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Four good clips of two originals."""
    folder = tmp_path_factory.mktemp("good")
    cuts = [("bikes", 0), ("bikes", 30), ("bigbuckbunny", 0), ("bigbuckbunny", 20)]
    return [
        videos.cut(folder / f"{number}.mp4", name, start=start).read_bytes()
        for number, (name, start) in enumerate(cuts)
    ]


@pytest.fixture
def bench(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    work = tmp_path / "work"
    work.mkdir()
    return Bench(store, work, re.sub(r"\W+", "-", request.node.name))


@pytest.fixture
def four(bench: Bench, good: list[bytes]) -> list[Row]:
    """Rows of the four good clips, which are in the store."""
    rows = [
        {"video": f"clips/{n}.mp4", "prompt": f"A clip, number {n}", "source": "ab"[n // 2]}
        for n in range(4)
    ]
    bench.put({f"clips/{n}.mp4": data for n, data in enumerate(good)}, rows)
    return rows
