"""Each image has its own requirements: what it runs must need no more, nor load more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[3] / "requirements"
WITHOUT = """\
import importlib, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
class Present(PathFinder):
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else PathFinder.find_spec(name, path)
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Present()]
for name in sys.argv[1:]:
    importlib.import_module(name)
assert "torch._inductor.compile_fx" not in sys.modules, "torch's compiler takes a second to load"
"""


def absent(image: str) -> set[str]:
    """Importable names of this environment that the image has not."""
    locked = (REQUIREMENTS / f"{image}.txt").read_text()
    there = {plain(name) for name in re.findall(r"^([\w.-]+)==", locked, re.MULTILINE)}
    return {
        module
        for module, distributions in packages_distributions().items()
        if not there & {plain(each) for each in distributions}
    } - {"wan_operator", "wan_runtime"}


def plain(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("operator", ["wan_operator.cli", "wan_runtime.cli", "wan_runtime.serving.gateway.server"]),
        ("runtime", ["wan_runtime.cli", "wan_runtime.serving.worker.command"]),
        ("runtime", ["wan_runtime.data.encode", "wan_runtime.serving.worker.rank"]),
    ],
    ids=["operator and gateway", "worker", "encoding and rank"],
)
def test_an_image_has_what_its_commands_import(image: str, modules: list[str]) -> None:
    missing = absent(image)
    assert "pytest" in missing
    script = f"absent = {missing!r}\n{WITHOUT}"
    done = subprocess.run(
        [sys.executable, "-c", script, *modules],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
