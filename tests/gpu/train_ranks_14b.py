"""Time of a LoRA training step at the 14B shapes on several GPUs, beside one GPU in the same run.

    PYTHONPATH=runtime:tests python tests/gpu/train_ranks_14b.py --ranks 2 --out ranks.json

Random weights, synthetic latents, the real `Trainer`; attention is kept. Rows take turns: one GPU
while the others wait, all GPUs on the tokens of one clip, one GPU again, all again, all on a clip
each, and on more than two GPUs groups of two, and of four, on a clip each. Each row starts from the
same weights and draws, so losses and norms can be compared. Rows already in `--out` are not
measured again. `--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from gpu import ranks
from gpu.synthetic import Synthetic, build, plain, with_heads
from gpu.train_step_14b import GIB, free_memory, variant
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.training import Parallelism
from wan_runtime.models import tiny
from wan_runtime.models.dit.parallel import Group, Mesh, groups_of, lone_mesh
from wan_runtime.models.load import compute_device
from wan_runtime.models.shapes import DIT21
from wan_runtime.presets import PRESETS
from wan_runtime.process import launch
from wan_runtime.training import meet
from wan_runtime.training.draws import Draws


@dataclass(frozen=True)
class Row:
    ranks: int
    sequence: int
    """Ranks that split the tokens of a clip."""
    steps: int
    turn: int

    @property
    def name(self) -> str:
        clips = self.ranks // self.sequence
        return f"GPUs {self.ranks}, clips {clips}, turn {self.turn}"


def rows(world: int, measured: int) -> list[Row]:
    return [
        Row(1, 1, measured, 1),
        Row(world, world, 2 * measured, 1),
        Row(1, 1, measured, 2),
        Row(world, world, 2 * measured, 2),
        *(Row(world, sequence, measured, 1) for sequence in (1, *between(world))),
    ]


def between(world: int) -> list[int]:
    """Sizes of groups that are neither one rank nor all."""
    return [each for each in (2, 4) if each < world and world % each == 0]


class Bench:
    """The trainer of a rank, to be grouped anew for each row."""

    def __init__(self, world: Mesh, frames: int, *, small: bool) -> None:
        preset = PRESETS["Wan2.1-I2V-Tiny" if small else "Wan2.1-I2V-14B-720P"]
        self.world = world
        few = with_heads(tiny.DIT21, world.world)
        self.trainer, self.cache = build(preset, few if small else DIT21, compute_device())
        assert isinstance(self.cache, Synthetic)
        self.cache.frames = frames
        self.weights = {
            name: each.detach().clone() for name, each in self.trainer.state.trainable.items()
        }
        # NCCL's groups are made by all ranks, once.
        alone = Group((world.rank,), 0)
        count = world.world
        self.meshes = {
            (1, 1): lone_mesh(),
            (count, count): replace(world, data=alone),
            (count, 1): replace(world, sequence=alone, data=world.sequence),
        }
        for size in between(count):
            sequence, data = groups_of(world.rank, count, size)
            self.meshes[count, size] = replace(world, sequence=sequence, data=data)

    def measure(self, row: Row) -> dict[str, Any]:
        """One warm-up step, then the median of the measured ones; memory of this rank."""
        mesh, trainer, cuda = self.meshes[row.ranks, row.sequence], self.trainer, self.cuda
        self.restart(mesh)
        free_memory(cuda)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        with variant(trainer, "ours-KeepAttention"):
            for _ in range(1 + row.steps):
                started = time.perf_counter()
                trainer.step()
                if cuda:
                    torch.cuda.synchronize()
                seconds.append(round(time.perf_counter() - started, 3))
        done = trainer.state.history["steps"]
        found: dict[str, Any] = {
            "row": row.name,
            "ranks": row.ranks,
            "sequence": row.sequence,
            "layers": len(trainer.transformer._module.blocks),
            "clipsPerStep": trainer.draws.clips_a_step,
            "secondsPerStep": statistics.median(seconds[1:]),
            "seconds": seconds,
            "losses": [step["loss"] for step in done],
            "norms": [step["gradientNorm"] for step in done],
        }
        if cuda:
            found["allocatedGiB"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
            found["reservedGiB"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
        return found

    def restart(self, mesh: Mesh) -> None:
        """The trainer as it was, on these ranks. As many clips a step as take different ones."""
        trainer = self.trainer
        state, spec = trainer.state, finetune_of(trainer.job).training
        spec = spec.model_copy(update={"batch_size": mesh.data.size})
        trainer.ranks = plain(trainer)._ranks = mesh
        trainer.draws = Draws(
            trainer.draws.clips, trainer.draws._empty_text, trainer.draws.levels, spec, mesh.data
        )
        self.cache.feed(trainer)
        with torch.no_grad():
            for name, each in state.trainable.items():
                each.copy_(self.weights[name])
        plain(trainer).optimizer.state.clear()
        state.generator.manual_seed(1)
        state.step = state.position = 0
        state.history = {"steps": [], "probes": []}

    def profile(self) -> list[str]:
        """Where the GPU's time goes in a step of all ranks on one clip."""
        self.restart(self.meshes[self.world.world, self.world.world])
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with variant(self.trainer, "ours-KeepAttention"):
            self.trainer.step()
            with torch.profiler.profile(activities=activities) as taken:
                self.trainer.step()
                torch.cuda.synchronize()
        events = sorted(taken.key_averages(), key=lambda each: -each.self_device_time_total)
        return [
            f"{each.self_device_time_total / 1e6:.3f} s x{each.count} {each.key[:90]}"
            for each in events[:14]
        ]

    @property
    def cuda(self) -> bool:
        return self.trainer.state.device.type == "cuda"


def rank(options: argparse.Namespace) -> None:
    began = time.monotonic()
    world = launch.place().world
    spec = {"nodes": 1, "gpus_per_node": world, "sequence": world}
    mesh = meet.meet(Parallelism(**spec))
    bench = Bench(mesh, options.frames, small=options.small)
    if mesh.rank == 0:
        print(f"made in {time.monotonic() - began:.0f} s", flush=True)
    content: dict[str, Any] = {"rows": []}
    if options.out.is_file():
        content = json.loads(options.out.read_text())
    done = {each["row"] for each in content["rows"]}
    for row in rows(world, options.measured):
        late = time.monotonic() - began > options.seconds
        wanted = re.search(options.rows, row.name) and row.name not in done
        if mesh.any(late) or not wanted:
            continue
        if mesh.rank < row.ranks:
            content["rows"].append(bench.measure(row))
        mesh.any(False)  # the others wait on their CPUs
        write(mesh, options.out, content, content["rows"][-1:])
    if (
        bench.cuda
        and not options.rows
        and "profile" not in content
        and not mesh.any(time.monotonic() - began > 440)
    ):
        content["profile"] = bench.profile()
        write(mesh, options.out, content, content["profile"])
    content |= summary(content["rows"], world)
    write(mesh, options.out, content, [summary(content["rows"], world)])


def write(mesh: Mesh, path: Path, content: dict[str, Any], said: list[Any]) -> None:
    if mesh.rank == 0:
        path.write_text(json.dumps(content, indent=1))
        for each in said:
            print(json.dumps(each), flush=True)


def summary(found: list[dict[str, Any]], world: int) -> dict[str, Any]:
    """What several GPUs gain over one, by the medians of all turns."""
    named = {each["row"]: each for each in found}
    taken = [row for row in rows(world, 1) if row.name in named]
    one = [named[row.name] for row in taken if row.ranks == 1]
    split = [named[row.name] for row in taken if row.sequence == world]
    if not one:
        return {}
    alone = _median(one)
    made = {"oneGpu": alone}
    if split:
        made |= {
            "sequence": _median(split),
            "speedup": round(alone / _median(split), 3),
            "lossOff": abs(split[0]["losses"][0] / one[0]["losses"][0] - 1),
            "normOff": abs(split[0]["norms"][0] / one[0]["norms"][0] - 1),
        }
    for row in taken:
        if 1 == row.sequence < row.ranks:
            made["dataSpeedup"] = round(world * alone / named[row.name]["secondsPerStep"], 3)
    return made


def _median(turns: list[dict[str, Any]]) -> float:
    return float(statistics.median(each for turn in turns for each in turn["seconds"][1:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--measured", type=int, default=1, help="steps after the first")
    parser.add_argument("--seconds", type=float, default=400, help="start no row after this")
    parser.add_argument("--rows", default="", help="only rows whose name this pattern finds")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the code out")
    options = parser.parse_args()
    if launch.place().world > 1:
        rank(options)
        dist.destroy_process_group()
        return 0
    return ranks.launch(options.ranks)


if __name__ == "__main__":
    sys.exit(main())
