"""Both experts of Wan2.2 at the same time, and one of them in trouble."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load, save_file

from conftest import SLOW
from finetunes import Run
from stack import BUCKET, Stack, wait_until

HIGH, LOW = "train-high-noise", "train-low-noise"
PAIR = {"model": {"preset": "Wan2.2-I2V-Tiny"}, "parallelism": {"experts": "Parallel"}}


def test_one_is_killed_and_the_other_goes_on(
    stack: Stack, namespace: str, start: Callable[..., Run]
) -> None:
    run = start("pair", **PAIR, training={"steps": 40, **SLOW})
    wait_until(
        lambda: run.training_step(HIGH) >= 12 and run.running_pod(LOW),
        what=run.story,
        every=0.2,
    )
    stack.kill(namespace, run.wait_running(HIGH))
    status = run.wait_complete()

    assert status["effective"]["gpus"] == 2
    names = [step["name"] for step in status["steps"]]
    assert names == ["prepare", "encode", HIGH, LOW, "export"]
    assert [step["attempts"] for step in status["steps"]] == [1, 1, 2, 1, 1]
    assert int(run.step(HIGH)["summary"]["resumedFromStep"]) >= 10
    for expert in (HIGH, LOW):
        probes = json.loads(run.committed(expert)["training.json"])["probes"]
        assert probes[-1]["losses"]["mean"] < probes[0]["losses"]["mean"], (expert, probes)

    weights = {name for name in run.committed("export") if name.endswith(".safetensors")}
    assert weights == {
        f"pair-{expert}-noise{tool}.safetensors"
        for expert in ("high", "low")
        for tool in ("", ".comfyui", ".diffusers")
    }
    assert [each["name"] for each in status["formats"]] == ["DiffSynth", "ComfyUI", "Diffusers"]
    assert all(float(each["worstDifference"]) < 1e-3 for each in status["formats"])


def test_one_goes_non_finite_and_the_other_is_stopped(
    stack: Stack, start: Callable[..., Run], reference: Run, tmp_path: Path
) -> None:
    """It starts from an adapter that overflows; Wan2.1's layers have the same names."""
    reference.wait_complete()
    adapter = load(reference.committed("export")["reference.safetensors"])
    save_file({name: 1e30 * tensor for name, tensor in adapter.items()}, tmp_path / "a.safetensors")
    stack.upload(tmp_path, "e2e-adapters")
    overflowing = {"highNoise": f"s3://{BUCKET}/e2e-adapters/a.safetensors"}
    run = start(
        "pair-non-finite",
        **PAIR,
        method={"lora": {"rank": 4, "learningRate": 1e-3, "initFrom": overflowing}},
        training={"steps": 2000},
    )
    stalled = run.wait_stalled()
    assert stalled["reason"] == "NonFiniteLoss", run.story()
    assert f"{LOW} was stopped" in run.conditions()["Failed"]["message"]
    assert [run.step(name)["state"] for name in (HIGH, LOW)] == ["Failed", "Stopped"]
    assert [run.step(name)["attempts"] for name in (HIGH, LOW)] == [1, 1], "never retried"
    wait_until(lambda: not run.running_pod(LOW), what=run.story)
    assert run.step("export")["state"] == "Waiting"
