"""The main job: one YAML in, verified LoRA weights in the bucket out."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from finetunes import Run
from stack import Stack

pytestmark = pytest.mark.timeout(900)


def test_from_yaml_to_weights(start: Callable[..., Run], stack: Stack, namespace: str) -> None:
    run = start("lora")
    # What a user types; it returns when the weights are there.
    stack.kubectl("-n", namespace, "wait", "--for=condition=Complete", "wft/lora", "--timeout=420s")
    status = run.status()

    assert [step["name"] for step in status["steps"]] == ["prepare", "encode", "train", "export", "sample"]
    assert {step["state"] for step in status["steps"]} == {"Complete"}
    assert {step["attempts"] for step in status["steps"]} == {1}
    assert status["observedGeneration"] == 1
    assert not run.is_true("Stalled")
    assert not run.is_true("Reconciling")
    assert not run.is_true("Running")

    weights = run.committed("export")
    assert "lora.safetensors" in weights
    training = json.loads(run.committed("train")["training.json"])
    probes = training["probes"]
    assert probes[-1]["loss"] < probes[0]["loss"], probes
    samples = run.committed("sample")
    assert {"base-0.mp4", "lora-0.mp4", "contact-sheet.png"} <= set(samples)
    assert samples["base-0.mp4"] != samples["lora-0.mp4"]
    assert "Complete" in stack.kubectl("-n", namespace, "get", "wan")


def test_both_experts_of_wan22(start: Callable[..., Run]) -> None:
    run = start("pair", model={"preset": "Wan2.2-I2V-Tiny"}, training={"steps": 10})
    status = run.wait_complete()

    names = [step["name"] for step in status["steps"]]
    assert names == ["prepare", "encode", "train-high-noise", "train-low-noise", "export", "sample"]
    weights = {name for name in run.committed("export") if name.endswith(".safetensors")}
    assert weights == {"lora-high-noise.safetensors", "lora-low-noise.safetensors"}
