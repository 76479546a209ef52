"""Log lines of the operator and of the pods have one form."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wan_operator import process
from wan_operator.settings import Settings
from wan_runtime.process import logs


def _operator() -> None:
    process.configure_logging(
        Settings(operator_image="a", runtime_image="b", namespace="c", log_format="json")
    )


def _pod() -> None:
    logs.configure("train", terminal=False)


@pytest.mark.parametrize(("configure", "own"), [(_operator, {}), (_pod, {"step": "train"})])
def test_a_line_is_json_of_one_schema(
    configure: Callable[[], None], own: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    try:
        raise ValueError("für alle")
    except ValueError:
        logging.getLogger("wan.any").exception("It failed", extra={"attempt": 2})
    streams = capsys.readouterr()
    [line] = (streams.out + streams.err).splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry.pop("error").endswith("ValueError: für alle")
    assert entry == {
        "level": "error",
        "logger": "wan.any",
        "message": "It failed",
        "attempt": 2,
        **own,
    }


def test_a_person_at_a_terminal_reads_what_a_call_adds(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("train", terminal=True)
    logging.getLogger("wan.any").warning("It waits", extra={"attempt": 2})
    assert capsys.readouterr().err.endswith("WARNING It waits attempt=2\n")


def test_a_command_turns_the_compiler_off_and_an_import_does_not(tmp_path: Path) -> None:
    program = (
        "import os, sys; from wan_runtime import cli; key = 'TORCHDYNAMO_DISABLE';"
        "before = os.environ.get(key); cli.main(['dataset', 'check', sys.argv[1]]);"
        "print(before, os.environ[key])"
    )
    without = {k: v for k, v in os.environ.items() if k != "TORCHDYNAMO_DISABLE"}
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=without, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout.splitlines()[-1] == "None 1", ended.stderr
