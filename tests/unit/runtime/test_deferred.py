"""Modules that are loaded when something of them is used."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_runtime.models import deferred

RECORDS = "import builtins\nbuiltins.executed.append(__name__)\n"
LARGE = (
    "diffusers", "pandas", "peft", "sympy", "torch._dynamo.eval_frame", "torchvision.ops",
    "transformers.modeling_utils", "modelscope.hub", "deepspeed.runtime",
)  # fmt: skip


@pytest.fixture
def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of a deferred package's modules, as they are executed."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {
        "__init__": "from large_package import child\ndef double(x): return 2 * x\n",
        "child": "VALUE = 7\n",
        "other": "from large_package import double\nclass Thing: pass\n",
    }.items():
        (tmp_path / "large_package").mkdir(exist_ok=True)
        (tmp_path / f"large_package/{name}.py").write_text(RECORDS + text)
    names = {
        "large_package": {"double": deferred.Late("large_package", "double")},
        "large_package.child": dict[str, object](),
        "large_package.other": {"Thing": deferred.Late("large_package.other", "Thing")},
    }
    monkeypatch.setattr(deferred, "NAMES", names)
    monkeypatch.setattr(deferred, "_pending", set(names))
    found: list[str] = []
    monkeypatch.setattr("builtins.executed", found, raising=False)
    yield found
    for name in [each for each in sys.modules if each.startswith("large_package")]:
        del sys.modules[name]


def test_an_import_executes_nothing(executed: list[str]) -> None:
    importlib.import_module("large_package.child")
    assert not hasattr(sys.modules["large_package"], "__wrapped__"), "what inspect tries"
    assert executed == []


def test_its_first_use_does_and_the_stand_in_stays_good(executed: list[str]) -> None:
    child = importlib.import_module("large_package.child")
    package = sys.modules["large_package"]
    assert child.VALUE == child.VALUE == 7
    assert executed == ["large_package", "large_package.child"], "once, and in the usual order"
    assert package.double(3) == 6
    assert importlib.import_module("large_package").child is sys.modules["large_package.child"]


def test_what_was_taken_by_its_name_is_late(executed: list[str]) -> None:
    double = importlib.import_module("large_package").double
    assert isinstance(double, deferred.Late)
    assert executed == []
    assert double(3) == 6
    assert executed == ["large_package", "large_package.child"]


def test_nothing_is_of_a_class_that_is_late(executed: list[str]) -> None:
    late = importlib.import_module("large_package.other").Thing
    assert not isinstance(7, late)
    assert executed == []
    assert isinstance(late(), late)
    assert not isinstance(7, late)


def test_another_module_of_the_package_finds_it_loaded(executed: list[str]) -> None:
    deferred._pending.discard("large_package.other")
    module = importlib.import_module("large_package.other")
    assert module.double(3) == 6, "the function itself"
    assert not isinstance(module.double, deferred.Late)
    assert executed == ["large_package", "large_package.child", "large_package.other"]
    assert module.__spec__.origin == module.__file__


def test_one_that_its_package_imports_is_executed_once(executed: list[str]) -> None:
    deferred._pending.discard("large_package.child")
    module = importlib.import_module("large_package.child")
    assert executed == ["large_package", "large_package.child"]
    assert module.__spec__.origin == module.__file__


def test_steps_and_ranks_load_nothing_that_they_do_not_use() -> None:
    program = (
        "import sys, wan_runtime.serving.worker.rank, wan_runtime.training.sample\n"
        "import wan_runtime.training.train, wan_runtime.data.encode\n"
        f"print([name for name in {LARGE} if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ended.stdout == "[]\n"
