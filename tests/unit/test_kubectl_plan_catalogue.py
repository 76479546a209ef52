"""`kubectl wan plan` by a catalogue of GPU types of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest_plugins = ["plan_fixtures"]
Plan = Callable[..., tuple[int, str, str]]


def on_h100() -> dict[str, Any]:
    selector = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    return {
        "apiVersion": "wan-operator.dev/v1alpha1",
        "kind": "WanFineTune",
        "metadata": {"name": "mine"},
        "spec": {
            "model": {"preset": "Wan2.1-I2V-14B-720P", "source": {"s3": "s3://models/wan21"}},
            "dataset": {"source": "s3://data/clips"},
            "podTemplate": {"nodeSelector": selector},
        },
    }


@pytest.mark.parametrize("form", ["list", "values"])
def test_a_catalogue_of_ones_own(plan: Plan, tmp_path: Path, form: str) -> None:
    entry = {
        "name": "H100-80GB", "products": ["NVIDIA-H100-80GB-HBM3"], "memoryGib": 79.18,
        "bf16Tflops": 989, "bandwidthGbs": 3350, "pricePerHour": 30,
    }  # fmt: skip
    file = tmp_path / "catalogue.yaml"
    file.write_text(yaml.safe_dump([entry] if form == "list" else {"gpuCatalogue": [entry]}))
    arguments = ("--clips", "90", "-o", "json")
    _, built_in, _ = plan(*arguments, of=on_h100())
    _, own, _ = plan(*arguments, "--catalogue", str(file), of=on_h100())
    assert json.loads(own)[0]["cost"] == pytest.approx(
        10 * json.loads(built_in)[0]["cost"], rel=0.01
    )
    file.write_text("gpuCatalog: []")
    status, _, error = plan("--catalogue", str(file), of=on_h100())
    assert status == 2
    assert "must hold one list of GPU types, alone or as the Helm value gpuCatalogue" in error
    file.write_text(yaml.safe_dump([{**entry, "memoryGib": 0}]))
    status, _, error = plan("--catalogue", str(file), of=on_h100())
    assert status == 2
    assert "gpuCatalogue[0].memoryGib: must be at least 1, not 0" in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold one list of GPU types, alone or as the Helm value gpuCatalogue"),
        ("gpuCatalogue: {}", "must hold one list of GPU types"),
        ("[]\n---\n[]", "must hold one list of GPU types"),
        ("[1]", "gpuCatalogue[0]: must be an object, not 1"),
        ("[{name: x}]", "gpuCatalogue[0].memoryGib: is missing; gpuCatalogue[0].bf16Tflops: is"),
        ("[{name: x, memory: 80}]", "gpuCatalogue[0].memory: there is no such field"),
        ("[{name: x y}]", "gpuCatalogue[0].name: must have the form"),
        ("[{name: x", "is no YAML at line 1, column 10: "),
        ("[{price: .nan, memoryGib: .inf}]", "gpuCatalogue[0].memoryGib: must be at most 100000"),
    ],
)
def test_a_catalogue_that_is_none(plan: Plan, tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text(content)
    status, out, error = plan("--catalogue", str(file), of=on_h100())
    assert (status, out) == (2, "")
    assert error.startswith(f"kubectl wan: {file}")
    assert message in error
    assert error.count("\n") == 1
