"""Imports of large modules, while the collector of garbage rests."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_runtime.process.imports import import_large

RECORDS = "import gc\nENABLED = gc.isenabled()\n"


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """What other tests hold is theirs to be rid of."""
    yield
    gc.unfreeze()


def test_nothing_is_collected_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "large_module.py").write_text(RECORDS)
    assert not import_large("large_module").ENABLED
    assert gc.isenabled()
    gc.unfreeze()
    assert import_large("large_module") is sys.modules.pop("large_module")
    assert gc.get_freeze_count() == 0, "nothing was imported the second time"


def test_an_import_that_fails_leaves_the_collector_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_module.py").write_text("raise ValueError('broken')\n")
    with pytest.raises(ValueError, match="broken"):
        import_large("broken_module")
    assert gc.isenabled()


def test_a_rank_dies_with_its_worker_while_it_imports_torch() -> None:
    program = (
        "import ctypes, runpy\n"
        "from wan_runtime.process import imports\n"
        "def seen(name):\n"
        "    number = ctypes.c_int()\n"
        "    ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG\n"
        "    raise SystemExit(number.value)\n"
        "imports.import_large = seen\n"
        "runpy.run_module('wan_runtime.serving.worker.start_rank', run_name='__main__')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == signal.SIGKILL
