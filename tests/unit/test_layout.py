"""Guards of the repository's layout: traps that bite long after the change that laid them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THIS = Path(__file__).relative_to(ROOT).as_posix()
CODE = ("operator/", "runtime/", "e2e/", "images/", "tests/", "tools/")
LINES = 400
"""A file is a noun or a verb; longer ones have become two."""

STDLIB = (
    "import operator, sysconfig; path = sysconfig.get_path('stdlib'); "
    "assert operator.__file__.startswith(path)"
)

# Where images and packages come from is the user's to say: a host written here would be asked
# behind their back.
HOSTS = re.compile(
    r"\b(docker\.io|gcr\.io|ghcr\.io|quay\.io|nvcr\.io|registry\.k8s\.io|public\.ecr\.aws"
    r"|mcr\.microsoft\.com|[a-z0-9-]+\.pkg\.dev|[a-z0-9-]+\.(?:internal|corp|lan)(?!\.v1))\b"
)
NAMED = {"e2e/cluster/loading.py": "spells image names in full, as containerd does"}

# Where a checkout has lain. The home of root within an image, and /work of a pod, are no such path.
PATHS = re.compile(r"(?<![\w.}~-])/(?:root/(?!\.cache/)|work/(?:main|shared|\.)|home/\w+/)")


@cache
def tracked() -> tuple[str, ...]:
    """What git knows or would add."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = done.stdout.split("\0")
    return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))


def text_of(name: str) -> str:
    """Empty for what is no text."""
    content = (ROOT / name).read_bytes()
    return "" if b"\0" in content else content.decode("utf-8", errors="replace")


def found(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """Lines with the pattern, but for this file's."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name in names
        if name != THIS
        for number, line in enumerate(text_of(name).splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("folder", ["operator", "runtime"])
def test_source_folders_are_not_packages(folder: str) -> None:
    """`operator/__init__.py` would shadow the standard library's module at the root."""
    assert list((ROOT / folder).glob("*.py")) == []


def test_the_standard_library_survives_the_root_on_the_path() -> None:
    subprocess.run(
        [sys.executable, "-S", "-c", STDLIB], cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT)}
    )


def test_no_test_folder_is_called_as_a_module_of_the_standard_library() -> None:
    """In importlib mode pytest would put `tests/operator` in its place."""
    tests = [Path(name) for name in tracked() if name.startswith(("tests/", "e2e/"))]
    folders = {part for path in tests for part in path.parts[:-1]}
    assert not folders & set(sys.stdlib_module_names)


def test_tests_are_no_packages() -> None:
    """In importlib mode equal names are allowed; an `__init__.py` would change what they mean."""
    packages = re.compile(r"tests/.*__init__\.py|e2e/__init__\.py")
    assert [name for name in tracked() if packages.fullmatch(name)] == []


def test_files_are_short() -> None:
    lengths = {
        name: text_of(name).count("\n")
        for name in tracked()
        if name.startswith(CODE) and name.endswith(".py")
    }
    assert {name: lines for name, lines in lengths.items() if lines >= LINES} == {}


def test_no_registry_is_named() -> None:
    """Except as the default of a build argument, which is the user's to replace."""
    lines = found(HOSTS, (name for name in tracked() if name not in NAMED))
    assert [line for line in lines if ": ARG " not in line] == []
    assert all(found(HOSTS, [name]) for name in NAMED), "an exception that nothing needs"


def test_no_path_of_one_machine_is_written_down() -> None:
    assert found(PATHS, tracked()) == []


@pytest.mark.parametrize(
    ("pattern", "caught", "free"),
    [
        (HOSTS, "image: ghcr.io/team/wan:1", "image: REGISTRY/wan:1"),
        (HOSTS, "https://pypi.example.corp/simple", "https://pypi.org/simple"),
        (PATHS, "cd /root/wan", "s3://wan/work/main/clips"),
        (PATHS, "open('/work/main/x')", "open('/work/latents')"),
    ],
)
def test_the_patterns_catch(pattern: re.Pattern[str], caught: str, free: str) -> None:
    assert pattern.search(caught)
    assert not pattern.search(free)
