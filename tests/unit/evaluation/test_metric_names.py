"""Names of metrics: what the operator reads of them without computing any."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from wan_runtime.contract.metric_names import METRIC_NAMES, METRICS


def test_every_name_has_its_definition_and_its_order() -> None:
    assert tuple(METRICS) == METRIC_NAMES
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in METRIC_NAMES)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_a_definition_is_a_sentence(name: str) -> None:
    text = METRICS[name].definition  # type: ignore[index]
    assert text[0].isupper()
    assert text.endswith(".")


def test_names_are_read_without_what_computes() -> None:
    """The operator's image has neither NumPy nor OpenCV."""
    program = (
        "import sys, wan_runtime.contract.metric_names\n"
        "assert not {'numpy', 'cv2', 'av', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
