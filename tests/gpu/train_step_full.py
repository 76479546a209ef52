"""Full fine-tuning on a GPU: it learns, a checkpoint restores it, and what a parameter costs.

    PYTHONPATH=runtime:tests python tests/gpu/train_step_full.py --out rows.json

The tiny transformer first, then blocks of the 14B width, as many as `--layers` says: 40 would take
230 GB. Random weights, synthetic latents, the real `Trainer.build` and `Trainer.step`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from gpu.synthetic import build, plain
from wan_runtime.models import tiny
from wan_runtime.models.dit import transformer
from wan_runtime.models.load import compute_device
from wan_runtime.models.shapes import DIT21
from wan_runtime.presets import PRESETS
from wan_runtime.training import checkpoint
from wan_runtime.training.trainer import Trainer

METHOD = {"full": {"learningRate": 1e-5}}
STEPS = 40
GIB = 2**30


def learns(device: torch.device) -> tuple[Trainer, dict[str, Any]]:
    """Forty steps of the tiny transformer at a rate that shows."""
    preset = PRESETS["Wan2.1-I2V-Tiny"]
    method = {"full": {"learningRate": 1e-3}}
    trainer, cache = build(preset, tiny.DIT21, device, method)
    cache.frames = 9
    for _ in range(STEPS):
        trainer.step()
    steps = trainer.state.history["steps"]
    halves = [statistics.fmean(step["loss"] for step in part) for part in (steps[:10], steps[-10:])]
    return trainer, {
        "losses": halves,
        "updatesLost": max(step["updatesLost"] for step in steps),
        "dtypes": sorted({str(one.dtype) for one in trainer.state.trainable.values()}),
        "fused": bool(plain(trainer).optimizer.defaults["fused"]),
        "learns": halves[1] < 0.9 * halves[0],
    }


def restores(trainer: Trainer, device: torch.device) -> dict[str, Any]:
    """A checkpoint through files into a fresh trainer; both then take the same step."""
    method = {"full": {"learningRate": 1e-3}}
    fresh, cache = build(PRESETS["Wan2.1-I2V-Tiny"], tiny.DIT21, device, method)
    cache.frames = 9
    with tempfile.TemporaryDirectory() as folder:
        pieces = list(checkpoint._write(trainer.state, Path(folder)))
        checkpoint._read(fresh.state, iter([path for _, path in pieces]))
    equal = all(
        torch.equal(trainer.state.read(label, name), fresh.state.read(label, name))
        for label in trainer.state.sets
        for name in trainer.state.layout
    )
    losses = []
    for each in (trainer, fresh):
        each.step()
        losses.append(each.state.history["steps"][-1]["loss"])
    return {"equal": equal, "nextLosses": losses, "pieces": [name for name, _ in pieces]}


def costs(device: torch.device, layers: int, frames: int) -> dict[str, Any]:
    """Seconds and memory of a step of blocks of the 14B width."""
    config = {**DIT21, "num_layers": layers}
    with mock.patch.object(transformer, "recognised", return_value=True):
        trainer, cache = build(PRESETS["Wan2.1-I2V-14B-720P"], config, device, METHOD)
    cache.frames = frames
    parameters = sum(one.numel() for one in trainer.state.trainable.values())
    for _ in range(4):
        trainer.step()
    steps = trainer.state.history["steps"]
    return {
        "layers": layers,
        "frames": frames,
        "parameters": parameters,
        "bytesAParameter": (
            sum(
                trainer.state.read(label, name).nbytes
                for label in trainer.state.sets
                for name in trainer.state.layout
            )
            / parameters
            + 4  # gradients
        ),
        "peakGiB": torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else None,
        "secondsPerStep": statistics.median(step["seconds"] for step in steps[1:]),
        "updatesLost": [step["updatesLost"] for step in steps],
        "losses": [step["loss"] for step in steps],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--frames", type=int, default=25)
    options = parser.parse_args()
    device = compute_device()
    tiny.register()
    trainer, rows = learns(device)
    report = {"device": str(device), "torch": torch.__version__, "learns": rows}
    report["restores"] = restores(trainer, device)
    del trainer
    if options.layers:
        report["costs"] = costs(device, options.layers, options.frames)
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
