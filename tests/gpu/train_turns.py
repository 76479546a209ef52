"""A LoRA training step at the 14B shapes: ours, as it was and as it is, and diffsynth's, in turn.

    CUBLAS_WORKSPACE_CONFIG=:4096:8 PYTHONPATH=runtime:tests \\
        python tests/gpu/train_turns.py --frames 81 --out rows.json

`ours` recomputes every block, as every release before `KeepAttention` did; `peer` is diffsynth's
own forward and loss on the same transformer; a code that ends in `-deterministic` takes kernels
whose results repeat to the bit. One process, one transformer, synthetic latents: each takes a step
to warm up, and then they take steps in turn, so that what the GPU's clock or a neighbour does falls
on all. All steps begin with the same weights and draws, so losses and gradients of ours can be
compared, and the steps of one code with each other; diffsynth draws noise of its own and weighs its
loss by noise level.

`--joint` then loads the other expert of the pair beside, as `parallelism.experts: Joint` does, and
takes a step of each under the first code. `--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu.same_start import SameStart, Weights, distance
from gpu.synthetic import Synthetic, build, shapes_of
from gpu.train_step_14b import GIB, free_memory, ours, peer, restore, variant
from wan_runtime.models.dit.kept import KeptBlocks
from wan_runtime.models.load import compute_device
from wan_runtime.training.trainer import Trainer

CODES = ("ours", "peer", "ours-KeepAttention", "ours-KeepAttention-deterministic", "ours-Offload")


class Turns:
    """Steps of one trainer by several codes."""

    def __init__(self, trainer: Trainer, cache: Synthetic) -> None:
        self.trainer, self.cache, self.start = trainer, cache, SameStart(trainer)
        self.blocks: dict[str, KeptBlocks] = {}
        self.first: dict[str, Weights] = {}
        """Weights after the first step by each code."""

    def take(self, code: str) -> dict[str, Any]:
        """Figures of one step."""
        trainer, cuda = self.trainer, self.trainer.state.device.type == "cuda"
        free_memory(cuda)  # of the code before, which kept other sizes
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        self.start.restore()
        # The peer makes an optimizer of its own here; its first update costs as any other.
        step: Callable[[], float] = (peer if code == "peer" else ours)(trainer, self.cache)
        with variant(trainer, code, self.blocks):
            began = time.perf_counter()
            loss = step()
            if cuda:
                torch.cuda.synchronize()
            found: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 3), "loss": loss}
        if code == "peer":
            del step
            restore(trainer)
        else:
            found["gradientNorm"] = trainer.state.history["steps"][-1]["gradientNorm"]
            after = self.start.weights()
            found["differsBy"] = distance(self.first.setdefault(code, after), after)
        if cuda:
            found["allocatedGiB"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
            found["reservedGiB"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
        print(json.dumps({"code": code, **found}), flush=True)
        return found


def joint(turns: Turns, other: Turns, code: str) -> dict[str, Any]:
    """A step of the other expert, which warms it up, and one of the first, both on the GPU. What
    they keep in host memory lies in the same place, as in a run of both."""
    with variant(other.trainer, code, other.blocks):
        pass  # which makes its blocks
    if code in turns.blocks:
        other.blocks[code].copies = turns.blocks[code].copies
    return {"other": other.take(code), "first": turns.take(code)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--preset", default="Wan2.1-I2V-14B-720P")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--codes", default=",".join(CODES))
    parser.add_argument("--joint", action="store_true", help="also both experts of a pair")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = compute_device()
    preset, config = shapes_of(options.preset, small=options.small)
    codes = options.codes.split(",")
    frames = 5 if options.small else options.frames
    content: dict[str, Any] = {"preset": preset.name, "frames": frames}
    taken: dict[str, list[dict[str, Any]]] = {code: [] for code in codes}

    def made(number: int) -> Turns:
        trainer, cache = build(preset, config, device, expert=preset.experts[number])
        cache.frames = frames
        return Turns(trainer, cache)

    def write() -> None:
        if options.out:
            options.out.write_text(json.dumps(content, indent=1))

    turns = made(0)
    content |= {"ranks": 1, "layers": len(turns.trainer.transformer._module.blocks)}
    for turn in range(1 + options.rounds):
        for code in codes:
            taken[code].append(turns.take(code))
            content["steps"] = taken
            write()
        if turn:
            content["rows"] = rows(taken)
            write()
    if options.joint:
        turns.first.clear()
        content["joint"] = joint(turns, made(1), codes[0])
        write()
    print(json.dumps({name: each for name, each in content.items() if name != "steps"}), flush=True)


def rows(taken: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A row for each code, without its step to warm up: times as multiples of the first code's."""
    found = dict[str, Any]()
    for code, steps in taken.items():
        last = steps[-1]
        median = statistics.median(each["seconds"] for each in steps[1:])
        found[code] = {**last, "secondsPerStep": median, "seconds": [e["seconds"] for e in steps]}
        if "differsBy" in last:
            found[code]["differsBy"] = max(each["differsBy"] for each in steps)
        found[code]["over"] = round(median / next(iter(found.values()))["secondsPerStep"], 3)
    return found


if __name__ == "__main__":
    main()
