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

from wan_runtime.planner.bands import ONE_CHIP
from wan_runtime.planner.gpus import DEFAULTS, by_product

PROFILES = ("Lossless", "Balanced", "Fast")
GUIDED = 2
"""Passes of a step with guidance."""
CODES = {"ours": ("runtime", "Full"), "peer": ("diffsynth", "Full"),
         "ours-deterministic": ("deterministic", "Full"),
         "ours-KeepAttention": ("kept", "KeepAttention"),
         "ours-Offload": ("kept", "Offload")}  # fmt: skip
"""Code and checkpointing of a planner's row, by the name in train_step_14b.py."""


def refreshed(table: dict[str, Any], folder: Path, gpu: str) -> tuple[dict[str, Any], list[str]]:
    """A copy of the planner's table, and what changed in it, a line each.

    Args:
        folder: of the bench's rows.
        gpu: type of the machine's, by the planner's catalogue. Of another chip than the table's
            rows, nothing changes.
    """
    made, changes = copy.deepcopy(table), list[str]()
    if gpu not in ONE_CHIP:
        return made, [f"nothing: the planner's rows are of {' and '.join(ONE_CHIP)}, not of {gpu}"]

    def put(row: dict[str, Any], **figures: float | None) -> None:
        for name, value in figures.items():
            if value is not None and row.get(name) != value:
                changes.append(f"{row.get('id', 'scaling')}: {name} {row.get(name)} -> {value}")
                row[name] = value

    rows = made["rows"]
    for profile, seconds, gib in passes_of(folder):
        put(_row(rows, kind="Forward", profile=profile), seconds=seconds, allocatedGib=gib, gpu=gpu)
    for row in _content(folder, "decode"):
        if row["ranks"] == 1:
            own = _row(rows, kind="Decode", code="profile")
            put(own, seconds=row["seconds"], allocatedGib=row["peakGiB"], gpu=gpu)
    put(made["scaling"], **scaling_of(folder))
    for path in sorted(folder.glob("step-*.json")):
        for found in json.loads(path.read_text())["rows"]:
            preset, frames, _, name = found["row"].split()
            if found["error"] or name not in CODES:
                continue
            code, checkpointing = CODES[name]
            known = [
                row
                for row in rows
                if (row["kind"], row["preset"], row["frames"], row["code"], row["gpu"])
                == ("Training", preset, int(frames), code, gpu)
                and row.get("checkpointing", "Full") == checkpointing
                and not {"precision", "sequence"} & row.keys()
            ]
            for row in known[:1]:
                put(row, seconds=found["secondsPerStep"], allocatedGib=found["peakAllocatedGiB"],
                    reservedGib=found["peakReservedGiB"])  # fmt: skip
    return made, changes


def passes_of(folder: Path) -> Iterator[tuple[str, float, float | None]]:
    """(profile, seconds of a pass, GiB): half of a clip's step where there is one, and memory with
    all parts of the model; else the fastest pass of the transformer alone."""
    steps = {row["profile"]: row for row in _content(folder, "clip") if "profile" in row}
    forward = _content(folder, "forward")
    alone = forward["passes"] if forward else []
    for profile in PROFILES:
        took = [row["seconds"] for row in alone if row["name"] == profile]
        if profile in steps:
            row = steps[profile]
            yield profile, round(row["stepSeconds"] / GUIDED, 3), row["peakGiB"]
        elif took:
            yield profile, min(took), None


def scaling_of(folder: Path) -> dict[str, float]:
    """Speed of two GPUs over one, with Lossless and our own exchange."""
    found: dict[str, float] = {}
    decode = {row["ranks"]: row["seconds"] for row in _content(folder, "decode")}
    if {1, 2} <= decode.keys():
        found["decode"] = round(decode[1] / decode[2], 3)
    one = {profile: seconds for profile, seconds, _ in passes_of(folder)}.get("Lossless")
    for row in _content(folder, "step"):
        both = (row["profile"], row["backend"], row["ranks"]) == ("Lossless", "Native", 2)
        if both and one is not None:
            guided = row["guidance"] != 1.0
            name = "cfgParallel" if guided else "ulysses"
            found[name] = round((GUIDED if guided else 1) * one / row["seconds"], 3)
    return found


def _row(rows: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    return next(row for row in rows if wanted.items() <= row.items())


def _content(folder: Path, name: str) -> Any:
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else []


def main() -> None:
    """`measured.json` in the folder that is given, and what it changes."""
    folder = Path(sys.argv[1])
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    name = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    gpu = by_product(name.replace(" ", "-"), DEFAULTS)
    known = resources.files("wan_runtime.planner").joinpath("measured.json").read_text()
    made, changes = refreshed(json.loads(known), folder, name if gpu is None else gpu.name)
    (folder / "measured.json").write_text(json.dumps(made, indent=2) + "\n")
    print("\n".join(f"planner: {each}" for each in changes or ["all rows stay"]), flush=True)


if __name__ == "__main__":
    main()
