"""The planner's rows, with what a bench measured in the place of what stands there. No torch.

Only figures are replaced, of rows that are there: a row of something new is for a person to add.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from gpu.stated import content as _content
from gpu.stated import is_whole, named, unstated
from wan_runtime.contract.sampling import DEFAULT_STEP_CACHE, Profile, computed_steps
from wan_runtime.planner.bands import ONE_CHIP
from wan_runtime.planner.gpus import by_device

PROFILES: tuple[Profile, ...] = ("Lossless", "Balanced", "Fast")
DRAWN, SERVED = "Wan2.1-I2V-14B-720P", "Wan2.2-I2V-A14B"
"""Presets of single passes and steps, and of whole clips."""
SIZE = "1280x720"
GUIDED = 2
"""Passes of a step with guidance."""
CODES = {"ours": ("runtime", "Full"), "peer": ("diffsynth", "Full"),
         "ours-deterministic": ("deterministic", "Full"),
         "ours-KeepAttention": ("kept", "KeepAttention"),
         "ours-KeepAttention-deterministic": ("deterministic", "KeepAttention"),
         "ours-Offload": ("kept", "Offload")}  # fmt: skip
"""Code and checkpointing of a planner's row, by the name in train_step_14b and train_turns."""


def refreshed(table: dict[str, Any], folder: Path, gpu: str) -> tuple[dict[str, Any], list[str]]:
    """A copy of the planner's table, and what changed in it, a line each.

    Args:
        folder: of the bench's rows.
        gpu: type of the machine's, by the planner's catalogue. Of another chip than the table's
            rows, nothing changes.
    """
    made, changes = copy.deepcopy(table), [*unstated(folder)]
    if gpu not in ONE_CHIP:
        return made, [f"nothing: the planner's rows are of {' and '.join(ONE_CHIP)}, not of {gpu}"]

    def put(row: dict[str, Any], **figures: float | str | None) -> None:
        for name, value in figures.items():
            if value is not None and row.get(name) != value:
                changes.append(f"{row.get('id', 'scaling')}: {name} {row.get(name)} -> {value}")
                row[name] = value

    rows = made["rows"]
    for profile, preset, seconds, gib in passes_of(folder):
        row = _row(rows, kind="Forward", profile=profile)
        if row["preset"] != preset:
            row.pop("allocatedGib", None)
        put(row, preset=preset, seconds=seconds, allocatedGib=gib, gpu=gpu)
    for ranks, row in decodings_of(folder).items():
        if ranks == 1:
            own = _row(rows, kind="Decode", code="profile")
            put(own, seconds=row["seconds"], allocatedGib=row["peakGiB"], gpu=gpu)
    put(made["scaling"], **scaling_of(folder))
    for preset, frames, name, figures in steps_of(folder):
        if name not in CODES:
            continue
        code, checkpointing = CODES[name]
        known = [
            row
            for row in rows
            if (row["kind"], row["preset"], row["frames"], row["code"], row["gpu"])
            == ("Training", preset, frames, code, gpu)
            and row.get("checkpointing", "Full") == checkpointing
            and not {"precision", "gpus"} & row.keys()
        ]
        for row in known[:1]:
            put(row, **figures)
    return made, changes


def steps_of(folder: Path) -> Iterator[tuple[str, int, str, dict[str, float | None]]]:
    """(preset, frames, code, figures of the planner's row) of training steps. Those that took turns
    come last: a step with deterministic kernels is compared with the default one of its turn."""
    for steps in named(folder, "step-*"):
        for row in steps["rows"]:
            if not row["error"] and is_whole(row):
                preset, frames, _, name, *_ = row["row"].split()
                yield preset, int(frames), name, {
                    "seconds": row["secondsPerStep"], "allocatedGib": row["peakAllocatedGiB"],
                    "reservedGib": row["peakReservedGiB"],
                }  # fmt: skip
    for turns in filter(is_whole, named(folder, "turns-*")):
        for name, row in turns.get("rows", {}).items():
            yield turns["preset"], turns["frames"], name, {
                "seconds": row["secondsPerStep"], "allocatedGib": row.get("allocatedGiB"),
                "reservedGib": row.get("reservedGiB"),
            }  # fmt: skip


def passes_of(folder: Path) -> Iterator[tuple[Profile, str, float, float | None]]:
    """(profile, preset, seconds of a pass, GiB): the mean of a service's whole clip where there is
    one; else half of a clip's step, and memory with all parts of the model; else the fastest pass
    of the transformer alone."""
    whole = {row["quality"].title(): row for row in clips_of(folder)}
    steps = {row["profile"]: row for row in _content(folder, "clip") if "profile" in row}
    forward = _content(folder, "forward")
    alone = forward["passes"] if forward else []
    for profile in PROFILES:
        took = [row["seconds"] for row in alone if row["name"] == profile]
        if profile in whole:
            row = whole[profile]
            passes = GUIDED * computed_steps(profile, row["steps"], DEFAULT_STEP_CACHE)
            yield profile, SERVED, round(row["stages"]["denoising"] / passes, 3), None
        elif profile in steps:
            row = steps[profile]
            yield profile, DRAWN, round(row["stepSeconds"] / GUIDED, 3), row["peakGiB"]
        elif took:
            yield profile, DRAWN, min(took), None


def clips_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Whole clips with guidance that one GPU of a service made at full size."""
    for profile in PROFILES:  # other files of clips are of other rules for leaving steps out
        for row in _content(folder, f"clip-{profile.lower()}"):
            if row["ranks"] == 1 and "adapters" not in row and row["start"]["size"] == SIZE:
                yield row


def decodings_of(folder: Path) -> dict[int, dict[str, Any]]:
    """Rows of decoding as services do it, by number of GPUs."""
    return {row["ranks"]: row for row in _content(folder, "decode") if row["dtype"] == "float16"}


def scaling_of(folder: Path) -> dict[str, float]:
    """Speed of two GPUs over one, with Lossless and our own exchange."""
    found: dict[str, float] = {}
    decode = decodings_of(folder)
    if {1, 2} <= decode.keys():
        found["decode"] = round(decode[1]["seconds"] / decode[2]["seconds"], 3)
    passes = {profile: (preset, seconds) for profile, preset, seconds, _ in passes_of(folder)}
    preset, one = passes.get("Lossless", ("", 0.0))
    for row in _content(folder, "step"):
        both = (row["profile"], row["backend"]) == ("Lossless", "Native") and is_whole(row, 2)
        if both and preset == DRAWN:
            guided = row["guidance"] != 1.0
            name = "cfgParallel" if guided else "ulysses"
            found[name] = round((GUIDED if guided else 1) * one / row["seconds"], 3)
    return found


def _row(rows: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    return next(row for row in rows if wanted.items() <= row.items())


def main() -> None:
    """`measured.json` in the folder that is given, and what it changes."""
    folder = Path(sys.argv[1])
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    name = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    gpu = by_device(name)
    known = resources.files("wan_runtime.planner").joinpath("measured.json").read_text()
    made, changes = refreshed(json.loads(known), folder, name if gpu is None else gpu.name)
    (folder / "measured.json").write_text(json.dumps(made, indent=2) + "\n")
    print("\n".join(f"planner: {each}" for each in changes or ["all rows stay"]), flush=True)


if __name__ == "__main__":
    main()
