"""The main job: one YAML in, verified LoRA weights in the bucket out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy
import pytest
import torch

from finetunes import Run
from stack import TIMEOUT
from wan_runtime.contract.steps import Expert
from wan_runtime.models.layout import locate
from wan_runtime.presets import PRESETS


@pytest.fixture(scope="module")
def complete(reference: Run) -> Run:
    """By what a user types; it returns when the weights are in the bucket."""
    reference.stack.kubectl(
        "-n",
        reference.namespace,
        "wait",
        "--for=condition=Complete",
        f"wft/{reference.name}",
        TIMEOUT,
    )
    return reference


def test_the_run_is_complete_and_says_so(complete: Run) -> None:
    status = complete.status()
    assert [step["name"] for step in status["steps"]] == [
        "prepare",
        "encode",
        "train",
        "export",
        "sample",
    ]
    assert {step["state"] for step in status["steps"]} == {"Complete"}
    assert {step["attempts"] for step in status["steps"]} == {1}
    assert status["observedGeneration"] == 1
    assert {name for name, c in complete.conditions().items() if c["status"] == "True"} == {
        "Complete",
        "DatasetReady",
    }

    [row] = complete.stack.kubectl(
        "-n", complete.namespace, "get", "wft", "--no-headers"
    ).splitlines()
    assert row.split()[:3] == ["reference", "Complete", "Completed"]


def test_the_loss_on_held_out_probes_fell(complete: Run) -> None:
    probes = json.loads(complete.committed("train")["training.json"])["probes"]
    assert (probes[0]["step"], probes[-1]["step"]) == (0, 80)
    assert probes[-1]["losses"]["mean"] < 0.9 * probes[0]["losses"]["mean"], probes


def test_the_adapter_changes_the_video(complete: Run) -> None:
    samples = complete.committed("sample")
    assert {"base-0.mp4", "lora-0.mp4", "reference-0.mp4", "contact-sheet.png"} == set(samples)
    base, lora = (pictures(samples[name]) for name in ("base-0.mp4", "lora-0.mp4"))
    assert base.shape == lora.shape == (9, 48, 64, 3)
    assert numpy.abs(base - lora).mean() > 1, "of 255"


def test_the_weights_load_in_stock_diffsynth(complete: Run, tmp_path: Path) -> None:
    """With nothing of ours but the Tiny base model: the loader and the module are DiffSynth's."""
    # Not before: a process that imports it takes seconds of a core to start.
    from wan_runtime.models import tiny
    from wan_runtime.models.load import load_pipeline

    path = tmp_path / "reference.safetensors"
    path.write_bytes(complete.committed("export")["reference.safetensors"])
    preset = PRESETS["Wan2.1-I2V-Tiny"]
    tiny.write(preset, tmp_path / "base")
    pipe = load_pipeline(locate(preset, tmp_path / "base"), torch.float32, torch.device("cpu"))
    before = {name: weight.clone() for name, weight in pipe.dit.named_parameters()}
    pipe.load_lora(pipe.dit, str(path))
    changed = {
        name for name, weight in pipe.dit.named_parameters() if not weight.equal(before[name])
    }
    targets = ("q", "k", "v", "o", "ffn.0", "ffn.2")
    wanted = {
        name
        for name in before
        if name.endswith(tuple(f".{target}.weight" for target in targets)) and "blocks" in name
    }
    assert changed == wanted


def test_diffusers_changes_the_prediction_alike(complete: Run, tmp_path: Path) -> None:
    """Stock `diffsynth` and stock `diffusers`, each with its own file."""
    from diffusers_peer import check_same_change
    from wan_runtime.models import tiny

    committed = complete.committed("export")
    paths = [tmp_path / f"reference{tool}.safetensors" for tool in ("", ".diffusers")]
    for path in paths:
        path.write_bytes(committed[path.name])
    preset = PRESETS["Wan2.1-I2V-Tiny"]
    tiny.write(preset, tmp_path / "base")
    check_same_change(locate(preset, tmp_path / "base"), Expert.ONLY, *paths)


def pictures(video: bytes) -> numpy.ndarray:
    """Frames of an mp4 as float [T, H, W, 3]."""
    with av.open(io.BytesIO(video)) as container:
        return numpy.stack(
            [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        ).astype(float)
