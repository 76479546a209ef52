"""Seconds from the start of a train process to its first step at the 14B shapes.

    PYTHONPATH=runtime:tests python tests/gpu/start_14b.py --out rows.json

Two processes, one after the other: the first finds an empty folder for compiled kernels, as a pod
without a model cache does, and the second what the first left there. Each is the real
`Trainer.build` and `Trainer.step`; weights are random and made on the GPU, so fetching and reading
files is not in it. `--small` is the dry run on a CPU, which compiles nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FOUND = ("empty", "filled")
"""What the processes find in the folder."""


def take(options: argparse.Namespace) -> dict[str, Any]:
    """The parts of this process's start, in seconds."""
    marks = {"python": options.began, "imports": time.time()}
    import torch

    from gpu.synthetic import build, shapes_of
    from wan_runtime.models.load import compute_device

    preset, config = shapes_of("Wan2.1-I2V-14B-720P", small=options.small)
    device = compute_device()
    marks["transformer"] = time.time()
    training = {"gradientCheckpointing": "KeepAttention"}
    trainer, cache = build(preset, config, device, training=training)
    cache.frames = options.frames
    marks["first step"] = time.time()
    trainer.step()  # ends with the loss in host memory, hence with all work of the GPU
    marks["second step"] = time.time()
    trainer.step()
    ends = [*list(marks.values())[1:], time.time()]
    parts = {name: round(end - at, 1) for (name, at), end in zip(marks.items(), ends, strict=True)}
    found = {"toFirstStep": round(marks["second step"] - options.began, 1), "parts": parts}
    if device.type == "cuda":
        found["allocatedGiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.began is not None:
        print(json.dumps(take(options)))
        return
    rows = []
    with TemporaryDirectory() as folder:
        for found in FOUND:
            command = [sys.executable, __file__, "--began", str(time.time())]
            command += ["--frames", str(options.frames), *(["--small"] if options.small else [])]
            child = subprocess.run(
                command,
                env={**os.environ, "WAN_COMPILE_CACHE": folder},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            row = json.loads(child.stdout.splitlines()[-1])
            kept = sum(each.stat().st_size for each in Path(folder).rglob("*") if each.is_file())
            rows.append({"folder": found, **row, "MiB": round(kept / 2**20, 1)})
            print(json.dumps(rows[-1]), flush=True)
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
