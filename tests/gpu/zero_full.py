"""Full fine-tuning of a 14B model on several GPUs under ZeRO, and its checkpoints.

    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True PYTHONPATH=runtime:tests \\
        python tests/gpu/zero_full.py --ranks 2 --stage 3 --offload None --out rows.json

The real `Trainer` on random weights and synthetic latents, a process for each GPU; a step has two
clips on any number of ranks, or as many as `--clips` says, and each is shared by `--sequence` of
them. `--cap` holds each process to so many GiB, as on a smaller GPU. The loss is that of fixed
probes, before and after. `--save FOLDER` leaves a checkpoint there after the steps and takes one
more; `--load FOLDER` takes that step from the checkpoint, on what ranks and stage are named then.
`--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from gpu import ranks
from gpu.synthetic import build, shapes_of, with_heads
from wan_runtime.contract.training import Parallelism
from wan_runtime.models.dit import transformer
from wan_runtime.models.load import compute_device
from wan_runtime.process import launch
from wan_runtime.training import checkpoint, replicas
from wan_runtime.training.meet import meet
from wan_runtime.training.trainer import Trainer

GIB = 2**30


class Row:
    """What one rank has found; that of rank 0 is printed as it grows."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.content: dict[str, Any] = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(options).items()
        }
        self._options, self._cuda, self._began = options, device.type == "cuda", time.time()

    def add(self, **facts: Any) -> None:
        facts["secondsInAll"] = round(time.time() - self._began, 1)
        if self._cuda:
            facts["allocatedGiB"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
            facts["reservedGiB"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        facts["hostGiB"] = round(peak / 2**20, 2)
        self.content |= facts
        if self._options.rank == 0:
            print(json.dumps(facts), flush=True)
            if self._options.out:
                self._options.out.write_text(json.dumps(self.content, indent=1))


def made(options: argparse.Namespace, device: torch.device) -> Trainer:
    preset, config = shapes_of("Wan2.2-I2V-A14B", small=options.small)
    if options.small:
        config = with_heads(config, options.sequence)
    else:
        config = {**config, "num_layers": options.layers}
    parallelism = {
        "gpusPerNode": options.ranks,
        "sequence": options.sequence,
        "zeroStage": options.stage,
        "offload": options.offload,
    }
    training = {
        "gradientAccumulation": options.clips, "gradientCheckpointing": "Full",
        "parallelism": parallelism,
    }  # fmt: skip
    with mock.patch.object(transformer, "recognised", return_value=True):
        trainer, cache = build(
            preset,
            config,
            device,
            {"full": {"learningRate": options.rate}},
            training=training,
            ranks=meet(Parallelism.model_validate(parallelism)),
        )
    cache.frames = options.frames
    trainer.validation.probes._clips = trainer.draws.clips[:1]
    return trainer


def save(trainer: Trainer, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return trainer.state.update.led(
        lambda: [name for name, _ in checkpoint._write(trainer.state, folder)]
    )


def load(trainer: Trainer, folder: Path) -> None:
    trainer.state.update.led(
        lambda: checkpoint._read(trainer.state, iter(sorted(folder.iterdir())))
    )
    replicas.share(trainer.state, trainer.ranks, resumed=True)


def last(trainer: Trainer) -> dict[str, Any]:
    entry: dict[str, Any] = trainer.state.history["steps"][-1]
    return entry


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--stage", type=int, default=3, choices=(0, 2, 3))
    parser.add_argument("--offload", default="None")
    parser.add_argument("--sequence", type=int, default=1, help="GPUs that share a clip")
    parser.add_argument("--clips", type=int, default=2, help="of an optimizer step")
    parser.add_argument("--cap", type=float, help="GiB of a GPU")
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1e-5)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--load", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    place = launch.place()
    if place.world < options.ranks:
        return ranks.launch(options.ranks)
    options.rank = place.rank
    if torch.cuda.is_available():
        torch.cuda.set_device(options.rank)
        if options.cap:
            share = options.cap * GIB / torch.cuda.mem_get_info()[1]
            torch.cuda.set_per_process_memory_fraction(share)
    device = compute_device()
    row = Row(options, device)
    trainer = made(options, device)
    row.add(parameters=sum(shape.numel() for shape in trainer.state.update.shapes.values()))
    probes: list[float] = []

    def probe() -> None:
        probes.append(trainer.validation.probes.evaluate(trainer.transformer)["mean"])

    if options.load:
        started = time.time()
        load(trainer, options.load)
        row.add(loadSeconds=round(time.time() - started, 1), step=trainer.state.step)
    else:
        replicas.share(trainer.state, trainer.ranks, resumed=False)
        row.add(divided=True)
        probe()
        for _ in range(options.steps):
            trainer.step()
            row.add(last=last(trainer))
        probe()
        row.add(probes=probes, steps=trainer.state.history["steps"])
        if options.save:
            started = time.time()
            row.add(files=save(trainer, options.save))
            row.add(saveSeconds=round(time.time() - started, 1))
    if options.save or options.load:
        trainer.step()
        probe()
        row.add(next=last(trainer), nextProbe=probes[-1])
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
