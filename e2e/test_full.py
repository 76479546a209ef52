"""All weights of both experts: one YAML in, weights that stock DiffSynth takes for the model's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load

from conftest import SAMPLED
from finetunes import Run
from wan_runtime.contract.steps import Expert
from wan_runtime.models.layout import locate
from wan_runtime.presets import PRESETS

EXPERTS = {Expert.HIGH_NOISE: "high-noise", Expert.LOW_NOISE: "low-noise"}


def test_full_weights_of_both_experts(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start(
        "full-pair",
        model={"preset": "Wan2.2-I2V-Tiny"},
        method={"full": {"learningRate": 1e-4}},
        training={"steps": 20, "captionDropoutPercent": 10},
        validation=SAMPLED,
    )
    # Not before: a process that imports it takes seconds of a core to start.
    from wan_runtime.models import tiny
    from wan_runtime.models.load import load_pipeline

    run.wait_complete()
    preset = PRESETS["Wan2.2-I2V-Tiny"]
    tiny.write(preset, tmp_path / "base")
    base = locate(preset, tmp_path / "base")
    exported = run.committed("export")
    shards: dict[Expert, tuple[Path, ...]] = {}
    trained = {}
    for expert, name in EXPERTS.items():
        committed = run.committed(f"train-{name}")
        trained[expert] = load(committed["full.safetensors"])
        probes = json.loads(committed["training.json"])["probes"]
        assert probes[-1]["losses"]["mean"] < probes[0]["losses"]["mean"], probes
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(exported[f"full-pair-{name}.safetensors"])
        shards[expert] = (path,)
    cpu = torch.device("cpu")
    before = load_pipeline(base, torch.float32, cpu)
    after = load_pipeline(replace(base, dits=shards), torch.float32, cpu)
    for transformer, expert in (("dit", Expert.HIGH_NOISE), ("dit2", Expert.LOW_NOISE)):
        weights = dict(getattr(before, transformer).named_parameters())
        same = [name for name, weight in trained[expert].items() if weight.equal(weights[name])]
        assert not same, "every weight is trained"
        for name, weight in getattr(after, transformer).named_parameters():
            # Exported in bfloat16, where a small change of a norm's weight may vanish.
            assert weight.equal(trained[expert][name].bfloat16().float()), name
    assert {"base-0.mp4", "full-0.mp4"} <= set(run.committed("sample"))
