"""Modules that are loaded when something of them is used."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from wan_runtime.models import deferred

RECORDS = "import builtins\nbuiltins.executed.append(__name__)\n"
SOURCES = {
    "large_package/__init__": "from large_package import child\ndef double(x): return 2 * x\n",
    "large_package/child": "VALUE = 7\n",
    "large_package/other": "from large_package import double\nclass Thing: pass\n",
    "holder": "def __getattr__(name): return 'found late'\n",
    "importer": (
        "import holder\nimport large_package.child as child\nfrom large_package import double\n"
        "from large_package.other import Thing\ntaken = holder.part\n"
    ),
    "impatient": "import large_package.child as child\nVALUE = child.VALUE\n",
    "faulty": "import large_package\nimport holder\n1 / 0\n",
}
CONTENT = {
    "large_package": {"double": deferred.Late("large_package", "double")},
    "large_package.child": dict[str, object](),
    "large_package.other": {"Thing": deferred.Late("large_package.other", "Thing")},
}
LARGE = (
    "diffusers", "pandas", "peft", "sympy", "torch._dynamo", "torchvision",
    "transformers.modeling_utils", "modelscope", "deepspeed.runtime",
)  # fmt: skip


@pytest.fixture
def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the modules of SOURCES, as they are executed."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "large_package").mkdir()
    for name, text in SOURCES.items():
        (tmp_path / f"{name}.py").write_text(RECORDS + text)
    importers = ("importer", "impatient", "faulty")
    monkeypatch.setattr(deferred, "MODULES", dict.fromkeys(importers, CONTENT))
    monkeypatch.setattr(
        deferred, "ATTRIBUTES", dict.fromkeys(importers, ("holder", "part", "a stand-in"))
    )
    for late in (CONTENT["large_package"]["double"], CONTENT["large_package.other"]["Thing"]):
        monkeypatch.setattr(late, "_found", None)
    found: list[str] = []
    monkeypatch.setattr("builtins.executed", found, raising=False)
    yield found
    for name in [each for each in sys.modules if each.split(".")[0] in {*importers, "holder"}]:
        del sys.modules[name]
    for name in [each for each in sys.modules if each.startswith("large_package")]:
        del sys.modules[name]


def left() -> list[str]:
    return [name for name, each in sys.modules.items() if isinstance(each, deferred.Deferred)]


def test_an_import_executes_nothing_and_leaves_no_stand_in(executed: list[str]) -> None:
    importer = importlib.import_module("importer")
    assert executed == ["holder", "importer"]
    assert not hasattr(importer.child, "__wrapped__"), "what inspect tries"
    assert left() == []
    assert "large_package" not in sys.modules
    assert importer.__spec__.origin == importer.__file__


def test_no_other_importer_finds_a_stand_in(executed: list[str]) -> None:
    importer = importlib.import_module("importer")
    package = importlib.import_module("large_package")
    assert not isinstance(package.double, deferred.Late)
    assert executed == ["holder", "importer", "large_package", "large_package.child"]
    assert importer.child.VALUE == package.child.VALUE
    assert importer.taken == "a stand-in"
    assert sys.modules["holder"].part == "found late"


def test_the_first_use_loads_it_once(executed: list[str]) -> None:
    importer = importlib.import_module("importer")
    assert importer.child.VALUE == importer.child.VALUE == 7
    assert importer.double(3) == 6
    assert executed == ["holder", "importer", "large_package", "large_package.child"]


def test_an_importer_may_use_it_at_once(executed: list[str]) -> None:
    assert importlib.import_module("impatient").VALUE == 7
    assert left() == []
    assert type(sys.modules["large_package"]) is ModuleType


def test_nothing_is_of_a_class_that_is_late(executed: list[str]) -> None:
    late = importlib.import_module("importer").Thing
    assert not isinstance(7, late)
    assert executed == ["holder", "importer"]
    assert isinstance(late(), late)
    assert not isinstance(7, late)


def test_what_is_loaded_already_is_found_itself(executed: list[str]) -> None:
    other = importlib.import_module("large_package.other")
    importer = importlib.import_module("importer")
    assert importer.Thing is other.Thing
    assert importer.child is sys.modules["large_package.child"]


def test_an_importer_that_fails_leaves_no_stand_in(executed: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("faulty")
    assert left() == []
    assert sys.modules["holder"].part == "found late"


def test_threads_that_use_it_at_once_find_it_complete(executed: list[str]) -> None:
    importer = importlib.import_module("importer")
    start, found = threading.Barrier(8), list[int]()

    def use(first: Callable[[], int], then: Callable[[], int]) -> None:
        start.wait()
        found.append(first() + then())

    uses = (lambda: importer.child.VALUE, lambda: importer.double(1))
    threads = [threading.Thread(target=use, args=uses[:: (1, -1)[n % 2]]) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [9] * 8
    assert executed == ["holder", "importer", "large_package", "large_package.child"]


def test_steps_and_ranks_load_nothing_that_they_do_not_use() -> None:
    program = (
        "import sys, wan_runtime.serving.worker.rank, wan_runtime.training.sample\n"
        "import wan_runtime.training.train, wan_runtime.data.encode\n"
        "from wan_runtime.models.deferred import Deferred\n"
        f"print([name for name in {LARGE} if name in sys.modules])\n"
        "print([name for name, each in sys.modules.items() if isinstance(each, Deferred)])\n"
        "import torch, transformers\n"
        "print('_dynamo' in vars(torch), 'Wav2Vec2Processor' in vars(transformers))\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ended.stdout == "[]\n[]\nFalse False\n"


def test_diffsynth_does_not_find_deepspeed() -> None:
    """It would import it, in each process."""
    program = (
        "import importlib.util, wan_runtime.models; print(importlib.util.find_spec('deepspeed'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert ended.stdout == "None\n"
