"""Time and memory of a LoRA training step at the 14B shapes: random weights, our own training code.

    PYTHONPATH=runtime:tests python tests/gpu/train_step_14b.py --out rows.json

The row `ours-deterministic` needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment.

A row is one (model, frames, code). Rows already in `--out` are not measured again, so a command cut
short is continued by repeating it. `peer` is diffsynth's own forward and loss on the same
transformer, with its default adapter precision. `--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from diffsynth.diffusion.flow_match import FlowMatchScheduler
from diffsynth.diffusion.loss import FlowMatchSFTLoss
from diffsynth.models import wan_video_dit
from diffsynth.pipelines.wan_video import model_fn_wan_video
from torch.cuda import Event
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu.synthetic import Synthetic, build, plain
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.training import KEEPING
from wan_runtime.errors import classify
from wan_runtime.models import tiny
from wan_runtime.models.dit.forward import keep_time_embedding_fp32
from wan_runtime.models.dit.kept import KeptBlocks
from wan_runtime.models.load import compute_device
from wan_runtime.models.shapes import DIT21, DIT22
from wan_runtime.presets import PRESETS
from wan_runtime.training import guard
from wan_runtime.training.trainer import Trainer

MEASURED = 3
GIB = 2**30


@dataclass(frozen=True)
class Row:
    model: str
    code: str
    """`ours`, `peer`, or ours with one thing changed: see `variant`."""
    frames: int
    measured: int = MEASURED

    @property
    def name(self) -> str:
        allocator = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
        return f"{self.model} {self.frames} frames {self.code} {allocator}".strip()


ROWS = (
    Row("Wan2.1-I2V-14B-720P", "ours", 25),
    Row("Wan2.1-I2V-14B-720P", "peer", 25),
    Row("Wan2.1-I2V-14B-720P", "ours-with-casts", 25),
    Row("Wan2.1-I2V-14B-720P", "ours-deterministic", 25),
    Row("Wan2.1-I2V-14B-720P", "ours", 45, 2),
    Row("Wan2.1-I2V-14B-720P", "peer", 45, 2),
    Row("Wan2.2-I2V-A14B", "ours", 25),
    Row("Wan2.2-I2V-A14B", "peer", 25),
    Row("Wan2.2-I2V-A14B", "ours", 45, 2),
    Row("Wan2.2-I2V-A14B", "peer", 45, 2),
    Row("Wan2.1-I2V-14B-720P", "ours", 57, 1),
    Row("Wan2.1-I2V-14B-720P", "ours", 61, 1),
    Row("Wan2.1-I2V-14B-720P", "ours-KeepAttention", 61, 2),
    Row("Wan2.1-I2V-14B-720P", "ours", 81, 1),
    Row("Wan2.1-I2V-14B-720P", "ours-KeepAttention", 81, 2),
    Row("Wan2.1-I2V-14B-720P", "ours-Offload", 81, 2),
    Row("Wan2.2-I2V-A14B", "ours-Offload", 81, 2),
    Row("Wan2.2-I2V-A14B", "ours-KeepAttention", 81, 2),
)


def ours(trainer: Trainer, cache: Synthetic) -> Callable[[], float]:
    def step() -> float:
        trainer.step()
        return float(trainer.state.history["steps"][-1]["loss"])

    return step


def peer(trainer: Trainer, cache: Synthetic) -> Callable[[], float]:
    """A step as diffsynth trains LoRA: bfloat16 adapters and time embedding, its forward and loss,
    recomputation of blocks, AdamW.
    """
    dit, dtype, device = (
        trainer.transformer._module,
        trainer.transformer.dtype,
        trainer.state.device,
    )
    dit.time_embedding.to(dtype)
    dit.time_projection.to(dtype)
    for parameter in trainer.state.trainable.values():
        parameter.data = parameter.data.to(dtype)
    parameters = list(trainer.state.trainable.values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    scheduler = FlowMatchScheduler("Wan")
    scheduler.set_timesteps(1000, training=True)
    pipe = SimpleNamespace(
        scheduler=scheduler, torch_dtype=dtype, device=device, dit=dit,
        in_iteration_models=("dit",), model_fn=model_fn_wan_video,
    )  # fmt: skip

    def step() -> float:
        batch = cache.batch(trainer)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = FlowMatchSFTLoss(
                pipe,
                input_latents=batch.clean_BCTHW.to(dtype),
                context=batch.conditions.context_BLD,
                clip_feature=batch.conditions.clip_BLD,
                y=batch.conditions.y_BCTHW,
                use_gradient_checkpointing=True,
            )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


@contextmanager
def variant(
    trainer: Trainer, code: str, made: dict[str, KeptBlocks] | None = None
) -> Iterator[None]:
    """Inside, the change that a row's code names.

    Args:
        made: blocks by code, to be used again: they have pinned host memory.
    """
    layers = [
        m for m in trainer.transformer._module.modules() if hasattr(m, "cast_input_dtype_enabled")
    ]
    assert layers, "peft has renamed its switch"
    for layer in layers:
        layer.cast_input_dtype_enabled = code == "ours-with-casts"
    # As training.deterministic does; the blocks choose their kernels by it.
    torch.use_deterministic_algorithms(code.endswith("-deterministic"))
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    policy = code.removeprefix("ours-").removesuffix("-deterministic")
    changed = trainer.transformer
    if policy in KEEPING:
        sizes = changed.device, changed.dtype, changed._attention.heads
        made = {} if made is None else made
        if code not in made:
            made[code] = KeptBlocks(changed._module, *sizes, policy)
        changed._kept = made[code]
    try:
        yield
    finally:
        changed._kept = None
        torch.use_deterministic_algorithms(False)
        for layer in layers:
            layer.cast_input_dtype_enabled = False


def restore(trainer: Trainer) -> None:
    """Back from the peer's precisions to ours, with fresh moments."""
    keep_time_embedding_fp32(trainer.transformer._module)
    for parameter in trainer.state.trainable.values():
        parameter.data = parameter.data.float()
    plain(trainer).optimizer.state.clear()


def measure(trainer: Trainer, cache: Synthetic, row: Row) -> dict[str, Any]:
    """One warm-up step, then the median of the measured ones; memory over all of them."""
    cuda = trainer.state.device.type == "cuda"
    cache.frames = row.frames
    free_memory(cuda)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    checked: list[int] = []
    check = guard.check_gradients

    def counting(trainable: Any, number: int) -> None:
        check(trainable, number)
        grads = [p.grad for p in trainable.values()]
        checked.append(sum(g is not None and bool(g.any()) for g in grads))

    step = (peer if row.code == "peer" else ours)(trainer, cache)
    seconds, losses, error = [], [], None
    # The guard looks at B alone at its first step and at A and B at the second.
    trainer.state.step = 0
    try:
        with (
            mock.patch.object(guard, "check_gradients", counting),
            variant(trainer, row.code),
        ):
            for _ in range(1 + row.measured):
                started = time.perf_counter()
                losses.append(round(step(), 4))
                if cuda:
                    torch.cuda.synchronize()
                seconds.append(round(time.perf_counter() - started, 3))
    except Exception as caught:  # a row of the table, whatever it is
        found = classify(caught)
        error = f"{int(found.exit_class)} {found.reason}: {found.message}"
        plain(trainer).optimizer.zero_grad(set_to_none=True)
        del caught, found
    finally:
        if row.code == "peer":
            del step
            restore(trainer)
    bucket = finetune_of(trainer.job).dataset.buckets[0]
    result: dict[str, Any] = {
        "row": row.name,
        "ranks": 1,
        "layers": len(trainer.transformer._module.blocks),
        "tokens": (1 + (row.frames - 1) // 4) * (bucket.height // 16) * (bucket.width // 16),
        "secondsPerStep": statistics.median(seconds[1:]) if len(seconds) > 1 else None,
        "seconds": seconds,
        "losses": losses,
        "gradientsNonZero": checked,
        "trainableTensors": len(trainer.state.trainable),
        "error": error,
    }
    if cuda:
        result["peakAllocatedGiB"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
        result["peakReservedGiB"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
    return result


def free_memory(cuda: bool) -> None:
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()


def attention(device: torch.device, tokens: int) -> dict[str, Any]:
    """Which kernels diffsynth's attention call runs as, and how long each of SDPA's backends takes
    forward and backward at one layer's shape.
    """
    found: dict[str, Any] = {"tokens": tokens}
    q, k, v = (
        torch.randn(1, tokens, 5120, device=device, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    )

    def once() -> None:
        wan_video_dit.flash_attention(q, k, v, num_heads=40).backward(torch.ones_like(q))

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        once()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda e: -e.device_time_total)
    found["kernels"] = [event.key[:100] for event in events[:3]]
    choices = {
        "default": None,
        "flash": SDPBackend.FLASH_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
    }
    for name, backend in choices.items():
        try:
            times = []
            for _ in range(4):
                start, end = (Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                start.record()
                if backend is None:
                    once()
                else:
                    with sdpa_kernel([backend]):
                        once()
                end.record()
                torch.cuda.synchronize()
                times.append(start.elapsed_time(end))
            found[f"{name}Milliseconds"] = round(statistics.median(times[1:]), 1)
        except RuntimeError as error:
            found[f"{name}Milliseconds"] = str(error)[:80]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=480, help="start no row after this")
    parser.add_argument("--rows", default="", help="only rows whose name this pattern finds")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the code out")
    options = parser.parse_args()
    began = time.monotonic()
    device = compute_device()
    cuda = device.type == "cuda"
    content: dict[str, Any] = {"rows": []}
    if options.out.is_file():
        content = json.loads(options.out.read_text())
    content["about"] = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "python": sys.version.split()[0],
    }

    def write() -> None:
        options.out.write_text(json.dumps(content, indent=1))

    done = {row["row"] for row in content["rows"]}
    trainer: Trainer | None = None
    loaded = ""
    if cuda and "attention" not in content:
        content["attention"] = [attention(device, tokens) for tokens in (25200, 43200)]
        print(json.dumps(content["attention"]), flush=True)
        write()
    # Rows of one model together: it is made once.
    for row in sorted(ROWS, key=lambda row: (row.frames > 45, row.model)):
        if row.name in done or not re.search(options.rows, row.name):
            continue
        if time.monotonic() - began > options.seconds:
            print(f"{row.name}: not measured, no time left", flush=True)
            continue
        if row.model != loaded:
            trainer = None
            free_memory(cuda)
            preset = PRESETS[row.model]
            config = DIT21 if preset.uses_clip else DIT22
            if options.small:
                config = tiny.DIT21 if preset.uses_clip else tiny.DIT22
                name = preset.name.replace("A14B", "Tiny").replace("14B-720P", "Tiny")
                preset = PRESETS[name]
            started = time.monotonic()
            trainer, cache = build(preset, config, device)
            loaded = row.model
            print(f"{loaded} made in {time.monotonic() - started:.1f} s", flush=True)
        assert trainer is not None
        content["rows"].append(measure(trainer, cache, row))
        print(json.dumps(content["rows"][-1]), flush=True)
        write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
