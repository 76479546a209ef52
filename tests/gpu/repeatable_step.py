"""What do training steps that repeat to the bit cost, and do they?

    CUBLAS_WORKSPACE_CONFIG=:4096:8 PYTHONPATH=runtime:tests \\
        python tests/gpu/repeatable_step.py --out rows.json

The real trainer's step under `KeepAttention` at the 14B width, random weights: PyTorch's default
kernels (FlashAttention-3 forward, cuDNN backward), then the same with gradients by cuDNN's and by
FlashAttention-2's repeatable kernels, in turn. A step of fewer layers costs as much a layer.
Each step starts from the same weights, so that those after it can be compared. `--small` is the dry
run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpu.same_start import SameStart, Weights, distance
from gpu.synthetic import build, shapes_of
from wan_runtime.models.dit import repeatable
from wan_runtime.models.dit.kept import KeptBlocks
from wan_runtime.models.load import compute_device
from wan_runtime.training.trainer import Trainer

MODES = {
    "default": None,
    "cuDNN": repeatable.cudnn_backward,
    "FlashAttention-2": repeatable.flash_backward,
}
"""Way -> its attention's backward, where it is not the default one."""


class Steps:
    """Steps of one trainer, each from the same start."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, on = trainer, trainer.transformer
        self.kept = KeptBlocks(
            on._module, on.device, on.dtype, on._attention.heads, "KeepAttention"
        )
        self.usual = self.kept.attention
        on._kept = self.kept
        self.start = SameStart(trainer)

    def take(self, mode: str) -> tuple[float, Weights]:
        """Seconds of a step, and the weights after it."""
        on, backward = self.trainer.transformer, MODES[mode]
        cuda = on.device.type == "cuda"
        self.kept.attention = self.usual
        if backward is not None and cuda:
            self.kept.attention = replace(self.usual, backward=backward)
        torch.use_deterministic_algorithms(backward is not None)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.start.restore()
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        self.trainer.step()
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        return seconds, self.start.weights()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = compute_device()
    preset, config = shapes_of("Wan2.1-I2V-14B-720P", small=options.small)
    if not options.small:
        config = {**config, "num_layers": options.layers}
    trainer, cache = build(preset, config, device)
    cache.frames = options.frames
    row: dict[str, Any] = {"layers": options.layers, "frames": options.frames}
    if device.type == "cuda":
        row["device"] = torch.cuda.get_device_name()
        row["cudnnRepeats"] = repeatable.cudnn_works(device)
        print(json.dumps(row), flush=True)
    steps, modes = Steps(trainer), options.modes.split(",")
    found: dict[str, list[tuple[float, Weights]]] = {mode: [] for mode in modes}
    for mode in modes:
        try:
            print(f"{mode}: first step {steps.take(mode)[0]:.2f} s", flush=True)
        except Exception as error:  # a row of the table, whatever it is
            row[f"{mode} error"] = f"{type(error).__name__}: {error}"[:400]
            print(row[f"{mode} error"], flush=True)
            del found[mode]
    for _ in range(options.rounds):
        for mode, taken in found.items():
            taken.append(steps.take(mode))
            print(f"{mode}: {taken[-1][0]:.2f} s", flush=True)
    if "default" not in found:
        return
    usual = statistics.median(seconds for seconds, _ in found["default"])
    for mode, taken in found.items():
        seconds = statistics.median(each for each, _ in taken)
        row[mode] = {
            "seconds": round(seconds, 3),
            "overDefault": round(seconds / usual, 3),
            "stepsDifferBy": max(
                (distance(taken[0][1], weights) for _, weights in taken[1:]), default=None
            ),
            "fromDefault": distance(found["default"][0][1], taken[0][1]),
        }
    print(json.dumps(row), flush=True)
    if options.out:
        options.out.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
