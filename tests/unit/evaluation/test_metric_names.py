"""Names of metrics: what the operator reads of them without computing any."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from wan_runtime.contract.metric_names import METRIC_NAMES, METRICS, MetricName
from wan_runtime.evaluation.metrics import similarity


def test_every_name_has_its_definition_and_its_order() -> None:
    assert tuple(METRICS) == METRIC_NAMES
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in METRIC_NAMES)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_a_definition_is_a_sentence(name: str) -> None:
    text = METRICS[name].definition  # type: ignore[index]
    assert text[0].isupper()
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("name", "clip", "on_gpu", "wants"),
    [
        ("psnr", (16, 16, 5, 60), False, None),
        ("ms_ssim", (640, 161, 5, 16), False, None),
        ("ms_ssim", (160, 640, 5, 16), True, "needs 161 pixels at the shorter side"),
        ("vmaf", (16, 640, 5, 16), True, "needs 32 pixels at the shorter side"),
        ("vbench_dynamic_degree", (512, 512, 81, 16), False, None),
        ("vbench_dynamic_degree", (528, 512, 81, 16), False, "needs a GPU for pictures of more"),
        ("vbench_dynamic_degree", (1280, 720, 81, 16), True, None),
        ("vbench_dynamic_degree", (1280, 112, 81, 16), True, "needs 128 pixels"),
        ("vbench_dynamic_degree", (256, 256, 5, 60), True, "needs two of about 8 frames a second"),
        ("vbench_dynamic_degree", (256, 256, 9, 60), True, None),
    ],
)
def test_what_no_video_of_a_clip_can_have_is_known_before(
    name: MetricName, clip: tuple[int, int, int, float], on_gpu: bool, wants: str | None
) -> None:
    fault = METRICS[name].fault(*clip, on_gpu=on_gpu)
    assert fault is None if wants is None else fault is not None and fault.startswith(wants)


def test_the_smallest_pictures_are_those_of_what_computes() -> None:
    assert METRICS["ms_ssim"].smallest == similarity.SMALLEST


def test_names_are_read_without_what_computes() -> None:
    """The operator's image has neither NumPy nor OpenCV."""
    program = (
        "import sys, wan_runtime.contract.metric_names\n"
        "assert not {'numpy', 'cv2', 'av', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
