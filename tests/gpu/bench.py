"""Every measurement on a GPU, one command a row, each under 15 minutes: `make bench-gpu`.

A row's command leaves its figures in `--out` as JSON. Rows that are there are not taken again, so a
bench that was cut short, or whose machine was lent for half an hour, is continued by repeating it.
In the end `measurements.md` there has the table of all rows, and `measured.json` what the planner
knows, with these figures: both are for a person to read before they are kept. `--small` runs what
has tiny sizes, to try the code out on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.figures import (
    of_adapters,
    of_checks,
    of_clip,
    of_clips,
    of_decode,
    of_encode,
    of_float8,
    of_forward,
    of_full,
    of_gradients,
    of_profile,
    of_quality,
    of_ranks,
    of_repeatable,
    of_repeats,
    of_serving,
    of_start,
    of_step,
    of_steps,
    of_stream,
    of_turns,
    of_zero,
)

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 900.0
CLIPS = "CLIPS"
"""In a command: the folder with the clips."""
SHAPES = (
    ("Wan2.1-I2V-14B-720P", (25, 45, 57, 61, 81)),
    ("Wan2.2-I2V-A14B", (25, 45, 81)),
)
"""Of the rows of train_step_14b.py: ours beside the peer's, on one transformer."""


CLIPS_OF_SERVICES = (
    ("fast", "--profile", "Fast", "--clip", "fast", "--clip", "distilled-fast"),
    ("balanced", "--profile", "Balanced", "--clip", "balanced"),
    ("distilled", "--clip", "distilled"),
    ("lossless-two-gpus", "--ranks", "2", "--clip", "lossless"),
)
"""Of the rows of clips_14b.py: whole clips, each row's in less than the limit."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    command: tuple[str, ...]
    """Script beside this one, and its arguments; `--out FILE` is added."""
    figures: Callable[[Any], list[str]]
    """What the table shows of its JSON."""
    small: tuple[str, ...] | None = None
    """Arguments instead, or none: it has no tiny size."""


TURNS = (("Wan2.1-I2V-14B-720P", 61), ("Wan2.1-I2V-14B-720P", 81), ("Wan2.2-I2V-A14B", 81))
"""Shapes of the training step at which all codes take turns."""
SMALL_ZERO = ("--small", "--frames", "5", "--rate", "1e-3")
ROWS = (
    *(
        Row(
            f"step-{model}-{frames}",
            ("train_step_14b.py", "--rows", f"^{re.escape(model)} {frames} frames "),
            of_steps,
            ("--small",),
        )
        for model, lengths in SHAPES
        for frames in lengths
    ),
    *(
        Row(
            f"turns-{model}-{frames}",
            ("train_turns.py", "--preset", model, "--frames", str(frames)),
            of_turns,
            ("--small",),
        )
        for model, frames in TURNS
    ),
    Row("float8", ("float8_step.py",), of_float8, ("--small",)),
    Row("repeatable", ("repeatable_step.py",), of_repeatable, ("--small", "--frames", "5")),
    Row("ranks", ("train_ranks_14b.py",), of_ranks, ("--small",)),
    Row("encode", ("encode_clips.py",), of_encode, ("--small", "--clips", "2", "--rounds", "1")),
    Row("start", ("start_14b.py",), of_start, ("--small", "--frames", "5")),
    Row("full", ("train_step_full.py",), of_full, ("--layers", "0")),
    *(
        Row(f"zero-3-{offload}", ("zero_full.py", "--offload", offload), of_zero, SMALL_ZERO)
        for offload in ("None", "Optimizer")
    ),
    Row("gradients", ("block_gradients.py",), of_gradients, ("--small", "--frames", "5")),
    Row("repeats", ("repeat_steps.py",), of_repeats),
    *(
        Row(f"tiny-{kind}", ("run_tiny.py", "--clips", CLIPS, "--only", kind), of_checks)
        for kind in ("pipelines", "exactness", "full")
    ),
    Row("forward", ("forward_14b.py",), of_forward, ("--small",)),
    Row("step", ("step_14b.py",), of_step, ("--small",)),
    Row("decode", ("decode_14b.py",), of_decode, ("--small",)),
    Row("profile-decode", ("profile_14b.py", "decode"), of_profile, ("--small",)),
    Row("profile-step", ("profile_14b.py", "step"), of_profile, ("--small",)),
    Row("stream", ("stream_14b.py",), of_stream, ("--small",)),
    Row("quality", ("quality.py",), of_quality, ("--videos", "1")),
    Row("clip", ("clip_14b.py",), of_clip, ("--small",)),
    Row("adapters", ("adapters.py",), of_adapters),
    Row("serve", ("serve_14b.py",), of_serving, ("--small",)),
    *(
        Row(f"clip-{name}", ("clips_14b.py", "run", *arguments), of_clips, ("--small",))
        for name, *arguments in CLIPS_OF_SERVICES
    ),
)


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] = ROWS) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"), help="folder of the rows")
    parser.add_argument("--rows", default="", help="only rows whose name this pattern finds")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = [row for row in rows if re.search(options.rows, row.name)]
    if options.small:
        wanted = [row for row in wanted if row.small is not None]
    failed = [row.name for row in wanted if not take(row, options.out, small=options.small)]
    shown = "\n".join(table(rows, options.out))
    (options.out / "measurements.md").write_text(f"{shown}\n")
    if not options.small and shutil.which("nvidia-smi"):
        refresh = [sys.executable, str(ROOT / "tests/gpu/refreshed.py"), str(options.out)]
        subprocess.run(refresh, env=environment(), check=True)
    print("\n".join(table(wanted, options.out)), flush=True)
    return 1 if failed else 0


def take(row: Row, folder: Path, *, small: bool) -> bool:
    """Whether the row is there, taken now or before."""
    done, partial = folder / f"{row.name}.json", folder / f"{row.name}.partial"
    if done.is_file():
        print(f"{row.name}: done before", flush=True)
        return True
    script, *rest = row.command
    command = [sys.executable, str(ROOT / "tests/gpu" / script), *filled(rest, folder)]
    command += [*((row.small or ()) if small else ()), "--out", str(partial)]
    began = time.monotonic()
    code = run(command)
    ended = f"stopped after {LIMIT_SECONDS:.0f} s" if code is None else f"exit {code}"
    print(f"{row.name}: {ended}, {time.monotonic() - began:.0f} s", flush=True)
    if code == 0:
        partial.rename(done)
    return code == 0


def run(command: Sequence[str]) -> int | None:
    """Exit code; None if it had to be stopped. Nothing of it stays on the GPU."""
    process = subprocess.Popen(command, env=environment(), start_new_session=True)
    try:
        return process.wait(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def filled(arguments: Sequence[str], folder: Path) -> list[str]:
    """With the clips of the demo in the place of CLIPS, cut once."""
    if CLIPS not in arguments:
        return list(arguments)
    clips = folder / "clips"
    if not (clips / "metadata.csv").is_file():
        runpy.run_path(str(ROOT / "e2e/clips.py"))["write_dataset"](clips)
    return [str(clips) if each == CLIPS else each for each in arguments]


def environment() -> dict[str, str]:
    """As pods have it, and what deterministic kernels ask for."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("runtime", "tests"))
    return {
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        **os.environ,
        "PYTHONPATH": paths,
    }


def table(rows: Sequence[Row], folder: Path) -> list[str]:
    """In Markdown, as docs/measurements-gpu.md has it."""
    lines = ["| row | figures |", "| --- | --- |"]
    for row in rows:
        path = folder / f"{row.name}.json"
        found = row.figures(json.loads(path.read_text())) if path.is_file() else ["not taken"]
        lines += [f"| {row.name} | {figure} |" for figure in found]
    return lines


if __name__ == "__main__":
    sys.exit(main())
