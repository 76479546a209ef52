"""A LoRA training step at the 14B shapes: ours, as it was and as it is, and diffsynth's, in turn.

    PYTHONPATH=runtime:tests python tests/gpu/train_turns.py --frames 81 --out rows.json

`ours` recomputes every block, as every release before `KeepAttention` did; `peer` is diffsynth's
own forward and loss on the same transformer. One process, one transformer, synthetic latents: each
takes a step to warm up, and then they take steps in turn, so that what the GPU's clock or a
neighbour does falls on all. `--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from gpu.synthetic import build, shapes_of
from gpu.train_step_14b import GIB, free_memory, ours, peer, restore, variant
from wan_runtime.models.dit.kept import KeptBlocks
from wan_runtime.models.load import compute_device

CODES = ("ours", "peer", "ours-KeepAttention", "ours-Offload")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--preset", default="Wan2.1-I2V-14B-720P")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--codes", default=",".join(CODES))
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = compute_device()
    cuda = device.type == "cuda"
    preset, config = shapes_of(options.preset, small=options.small)
    trainer, cache = build(preset, config, device)
    cache.frames = 5 if options.small else options.frames
    blocks: dict[str, KeptBlocks] = {}
    codes = options.codes.split(",")
    content: dict[str, Any] = {"preset": preset.name, "frames": cache.frames}
    rows: dict[str, Any] = {code: {"seconds": []} for code in codes}

    def step(code: str) -> None:
        free_memory(cuda)  # of the code before, which kept other sizes
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        # The peer makes an optimizer of its own here; its first update costs as any other.
        take = (peer if code == "peer" else ours)(trainer, cache)
        with variant(trainer, code, blocks):
            began = time.perf_counter()
            loss = take()
            if cuda:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
        if code == "peer":
            del take
            restore(trainer)
        rows[code]["seconds"].append(round(seconds, 3))
        rows[code]["loss"] = round(loss, 4)
        if cuda:
            rows[code]["allocatedGiB"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
        print(f"{code}: {seconds:.3f} s", flush=True)

    for turn in range(1 + options.rounds):
        for code in codes:
            step(code)
        if turn:
            for row in rows.values():
                row["secondsPerStep"] = statistics.median(row["seconds"][1:])
            for row in rows.values():
                row["over"] = round(row["secondsPerStep"] / rows[codes[0]]["secondsPerStep"], 3)
        content["rows"] = rows
        if options.out:
            options.out.write_text(json.dumps(content, indent=1))
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
