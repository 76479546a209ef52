"""What the planner says of a bench's rows of several GPUs, beside what they took. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gpu.stated import LAYERS, content, is_whole, named
from wan_runtime.contract.training import Parallelism
from wan_runtime.planner.gpus import DEFAULTS, by_name
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Serving, Training

GPU = by_name("H200-141GB", DEFAULTS)
VIDEO = Serving(preset="Wan2.1-I2V-14B-720P", frames=81, width=1280, height=720, steps=1)
CLIP = Training(preset="Wan2.1-I2V-14B-720P", frames=81, width=1280, height=720)
"""The shapes of the scripts."""


class Beside(NamedTuple):
    """A row of the table; seconds, and GiB of a GPU where both are known."""

    what: str
    predicted: float
    predicted_gib: float
    measured: float
    measured_gib: float | None


def predictions(folder: Path, gpus: int) -> list[str]:
    """In Markdown, as docs/planner.md has it; without the rows that were not taken."""
    lines = ["| | predicted | measured |", "| --- | --- | --- |"]
    for each in (*of_steps(folder), *of_decoding(folder, gpus), *of_training(folder, gpus)):
        planned = f"{each.predicted:.3g} s, {each.predicted_gib:.1f} GiB"
        took = f"{each.measured:.4g} s"
        took += f", {each.measured_gib:.1f} GiB" if each.measured_gib else ""
        lines.append(f"| {each.what} | {planned} | {took} |")
    return lines


def of_steps(folder: Path) -> Iterator[Beside]:
    """Steps of a video."""
    for rows in (*named(folder, "x*-step-*"), *named(folder, "x*-ring-*")):
        for row in (each for each in rows if each["layers"] == LAYERS):
            guided = row["guidance"] != 1.0
            work = replace(VIDEO, gpus=row["ranks"], guided=guided, profile=row["profile"])
            plan = plan_serving(work, known())
            step = plan.seconds_per_clip - plan.seconds["VAE decode"]
            sharing = "guidance" if guided else "no guidance"
            what = f"{row['profile']}, {sharing}, {row['layout']}, {row['ranks']} GPUs, a step"
            yield Beside(what, step, plan.gib, row["seconds"], row["peakGiB"])


def of_decoding(folder: Path, gpus: int) -> Iterator[Beside]:
    """The VAE's decoder, a band of rows on each GPU."""
    plan = plan_serving(replace(VIDEO, gpus=gpus), known())
    for row in content(folder, f"x{gpus}-decode"):
        if row["ranks"] == gpus:
            decoding = plan.seconds["VAE decode"]
            what = f"decoding in {row['dtype']}, {gpus} GPUs"
            yield Beside(what, decoding, plan.gib, row["seconds"], None)


def of_training(folder: Path, gpus: int) -> Iterator[Beside]:
    """Steps of a LoRA with attention kept, and of all weights of Wan2.2."""
    lora = replace(CLIP, checkpointing="KeepAttention")
    for row in (content(folder, f"x{gpus}-ranks") or {"rows": []})["rows"]:
        if row["layers"] != LAYERS:
            continue
        clips = row["ranks"] // row["sequence"]
        spread = Parallelism(gpus_per_node=row["ranks"], sequence=row["sequence"])
        plan = plan_training(replace(lora, accumulation=clips, spread=spread), known())
        yield Beside(f"LoRA, {row['row']}", plan.seconds_per_step, plan.gib,
                     row["secondsPerStep"], row.get("allocatedGiB"))  # fmt: skip
    for row in named(folder, f"x{gpus}-zero-3-*"):
        if not is_whole(row, gpus):
            continue
        spread = Parallelism(gpus_per_node=gpus, sequence=row["sequence"], zero_stage=3)
        full = replace(
            CLIP, preset="Wan2.2-I2V-A14B", method="full", frames=row["frames"],
            accumulation=row["clips"], spread=spread,
        )  # fmt: skip
        plan = plan_training(full, known())
        what = f"all weights, {row['frames']} frames, {gpus} GPUs, {row['sequence']} for each clip"
        yield Beside(what, plan.seconds_per_step, plan.gib, row["last"]["seconds"],
                     row.get("allocatedGiB"))  # fmt: skip


def known() -> Any:
    assert GPU is not None
    return GPU
