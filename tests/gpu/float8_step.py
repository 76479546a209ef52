"""Time and memory of a LoRA step at the 14B shapes over base weights in FP8.

    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True PYTHONPATH=runtime:tests \\
        python tests/gpu/float8_step.py --out rows.json

The real `Trainer.build` and `Trainer.step` under `Offload`, random weights: 81 frames of 1280x720
on the whole GPU, then 61 with the process held to 48 GB. Beside each row stands what the planner
says of it. `--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from gpu.synthetic import build, plain, shapes_of
from gpu.train_step_14b import GIB, free_memory
from wan_runtime.models.load import compute_device
from wan_runtime.planner.gpus import DEFAULTS, by_name
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Training

CAP = 48e9
"""Bytes of a 48 GB card."""
ROWS = ((81, False), (61, True), (81, True))
"""(frames, whether under the cap)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--preset", default="Wan2.1-I2V-14B-720P")
    parser.add_argument("--steps", type=int, default=2, help="measured, after one to warm up")
    parser.add_argument("--precision", default="FP8")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = compute_device()
    cuda = device.type == "cuda"
    preset, config = shapes_of(options.preset, small=options.small)
    training = {"basePrecision": options.precision, "gradientCheckpointing": "Offload"}
    trainer, cache = build(preset, config, device, training=training)
    free_memory(cuda)
    content: dict[str, Any] = {"preset": preset.name, "precision": options.precision, "rows": []}
    if cuda:
        content["device"] = torch.cuda.get_device_name()
        content["weightsGiB"] = round(torch.cuda.memory_allocated() / GIB, 2)
        print(json.dumps(content), flush=True)
    for frames, capped in ROWS:
        cache.frames = 9 if options.small else frames
        free_memory(cuda)
        if cuda:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(CAP / total if capped else 1.0)
            torch.cuda.reset_peak_memory_stats()
        row: dict[str, Any] = {"frames": frames, "capped": capped, "seconds": []}
        try:
            for _ in range(1 + options.steps if not capped else 1):
                began = time.perf_counter()
                trainer.step()
                if cuda:
                    torch.cuda.synchronize()
                row["seconds"].append(round(time.perf_counter() - began, 2))
            row["losses"] = [each["loss"] for each in trainer.state.history["steps"]]
        except Exception as error:  # a row of the table, whatever it is
            row["error"] = f"{type(error).__name__}: {error}"[:300]
            plain(trainer).optimizer.zero_grad(set_to_none=True)
        if cuda:
            row["allocatedGiB"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
            row["reservedGiB"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
            work = Training(
                preset=preset.name, frames=frames, width=1280, height=720,
                checkpointing="Offload", precision=options.precision,
            )  # fmt: skip
            plan = plan_training(work, by_name("H200-141GB", DEFAULTS))
            row["planned"] = {"GiB": round(plan.gib, 1), "seconds": round(plan.seconds_per_step, 1)}
        content["rows"].append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            options.out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
