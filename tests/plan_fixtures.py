"""`kubectl wan plan` over documents.

A plugin of the test modules (`pytest_plugins`), which never import it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from wan_operator.kubectl.__main__ import main

Plan = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    """(exit status, stdout, stderr) of the command; `of`: a document, several or their text, on
    standard input."""

    def run(*arguments: str, of: Any) -> tuple[int, str, str]:
        documents = of if isinstance(of, list) else [of]
        text = of if isinstance(of, str) else yaml.safe_dump_all(documents)
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status = main(["plan", "-f", "-", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
