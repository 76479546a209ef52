"""Commands that begin at once share what one of them builds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore

import pytest

from cluster import images, locks, toolchain
from cluster.errors import ClusterError


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Semaphore:
    """Released whenever a command says that it waits for another."""
    monkeypatch.setenv("WAN_CACHE", str(tmp_path))
    told = Semaphore(0)
    monkeypatch.setattr(locks, "say", lambda _: told.release())
    return told


def twice(command: Callable[[], object]) -> None:
    with ThreadPoolExecutor(2) as commands:
        for done in [commands.submit(command) for _ in range(2)]:
            done.result()


def test_programs(waits: Semaphore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built = []

    def compile_(group: toolchain.Group, into: Path) -> None:
        assert waits.acquire(timeout=60)
        built.append(group.name)
        (into / "pause").write_text("a program")

    monkeypatch.setattr(toolchain, "_compile", compile_)
    monkeypatch.setattr(toolchain, "group_dir", lambda name: tmp_path / "bin" / f"{name}-0")
    (tmp_path / "bin" / ".pause-killed").mkdir(parents=True)
    twice(lambda: toolchain.build(("pause",)))
    assert built == ["pause"]
    assert (tmp_path / "bin" / "pause-0" / "pause").read_text() == "a program"
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["pause-0"]


def test_images(waits: Semaphore, tmp_path: Path) -> None:
    made = []

    def make(work: Path, target: Path) -> None:
        assert waits.acquire(timeout=60)
        made.append(target.name)
        target.write_text("an archive")

    (tmp_path / "images" / ".pause-killed").mkdir(parents=True)
    twice(lambda: images._cached("pause", "key", make))
    assert made == [path.name for path in (tmp_path / "images").iterdir()]


@pytest.mark.parametrize(
    ("version", "old"), [("1.19.8", True), ("1.25.4", True), ("1.26.0", False)]
)
def test_an_old_go_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, old: bool
) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    asked = toolchain._go_version.__wrapped__
    if not old:
        assert version in asked()
        return
    with pytest.raises(ClusterError, match=f"go{version[:4]} is too old: install Go 1.26 or newer"):
        asked()


@pytest.mark.parametrize("program", ["demo.py", "compare_four.py"])
def test_what_a_machine_lacks_is_said_without_a_traceback(program: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "WAN_KUBECONFIG": str(tmp_path / "config"),
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[2] / "e2e" / program],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"error: WAN_KUBECONFIG={tmp_path / 'config'}: no such file\n"
