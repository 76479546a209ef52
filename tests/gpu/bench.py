"""Every measurement on a GPU, one command a row, each under 15 minutes: `make bench-gpu`. With
`--gpus 4` or `--gpus 8`, those of so many GPUs instead, each under ten minutes.

A row's command leaves its figures in `--out` as JSON. Rows that are there are not taken again, but
for those of code that did not write down how many GPUs, layers or GPUs for a clip they are of. So a
bench that was cut short, or whose machine was lent for half an hour, is continued by repeating it.
In the end `measurements.md` there has the table of all rows, `predicted.md` what the planner says
of those of several GPUs, and `measured.json` what it knows, with these figures: all are for a
person to read before they are kept. `--small` runs what has tiny sizes, to try the code out on a
CPU.

`--queue 2` hands the rows to a queue of so many GPUs in `--out`/queue and returns: rows of one GPU
run side by side, those of several have them all, and `--seconds` after that none begins any more
(see scheduler.py, which also tells what became of them). The same command without it then takes
what is missing, and makes the tables.
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
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu import stated
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
    of_photo,
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
    of_usp,
    of_zero,
)
from gpu.predicted import predictions
from gpu.scheduler import ENDED, Job, add, here, open_queue, read
from wan_runtime.planner.architecture import TINY_HEADS

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 900.0
GANG_SECONDS = 590.0
"""The same of a row of several GPUs, which are lent for ten minutes at a time."""
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
    ("balanced-every-step", "--profile", "Balanced", "--step-cache", "EasyCache", "--clip",
     "balanced"),
    ("distilled", "--clip", "distilled"),
    ("lossless-two-gpus", "--ranks", "2", "--clip", "lossless"),
    ("exact-two-gpus", "--profile", "Exact", "--ranks", "2", "--clip", "exact"),
)  # fmt: skip
"""Of the rows of clips_14b.py: whole clips, each row's in less than the limit. 40 steps of Lossless
and Exact take longer than that on one GPU: `up`, `clip` and `down` of the script have them made."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    command: tuple[str, ...]
    """Script beside this one, and its arguments; `--out FILE` is added."""
    figures: Callable[[Any], list[str]]
    """What the table shows of its JSON."""
    small: tuple[str, ...] | None = None
    """Arguments instead, or none: it has no tiny size."""
    gpus: int | None = 1
    """That it uses; None: all that there are."""


TURNS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("Wan2.1-I2V-14B-720P", 61, ()),
    ("Wan2.1-I2V-14B-720P", 81, ()),
    ("Wan2.2-I2V-A14B", 81, ("--rounds", "1", "--joint")),
)
"""Shapes of the training step at which all codes take turns, and more arguments."""
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
            ("train_turns.py", "--preset", model, "--frames", str(frames), *more),
            of_turns,
            ("--small",),
        )
        for model, frames, more in TURNS
    ),
    Row("float8", ("float8_step.py",), of_float8, ("--small",)),
    Row("repeatable", ("repeatable_step.py",), of_repeatable, ("--small", "--frames", "5")),
    Row("ranks", ("train_ranks_14b.py", "--ranks", "2"), of_ranks, ("--small",), 2),
    Row("encode", ("encode_clips.py",), of_encode, ("--small", "--clips", "2", "--rounds", "1")),
    Row("start", ("start_14b.py",), of_start, ("--small", "--frames", "5")),
    Row("full", ("train_step_full.py",), of_full, ("--layers", "0")),
    *(
        Row(
            f"zero-3-{offload}",
            ("zero_full.py", "--ranks", "2", "--offload", offload),
            of_zero,
            SMALL_ZERO,
            2,
        )
        for offload in ("None", "Optimizer")
    ),
    Row("gradients", ("block_gradients.py",), of_gradients, ("--small", "--frames", "5")),
    Row("repeats", ("repeat_steps.py",), of_repeats),
    *(
        Row(f"tiny-{kind}", ("run_tiny.py", "--clips", CLIPS, "--only", kind), of_checks)
        for kind in ("pipelines", "exactness", "full")
    ),
    Row("forward", ("forward_14b.py",), of_forward, ("--small",)),
    Row("step", ("step_14b.py",), of_step, ("--small",), None),
    Row("decode", ("decode_14b.py",), of_decode, ("--small",), None),
    Row("encode-photo", ("encode_14b.py",), of_photo, ("--small",), None),
    Row("profile-decode", ("profile_14b.py", "decode"), of_profile, ("--small",)),
    Row("profile-step", ("profile_14b.py", "step"), of_profile, ("--small",)),
    Row("stream", ("stream_14b.py",), of_stream, ("--small",)),
    Row("quality", ("quality.py",), of_quality, ("--videos", "1")),
    Row("clip", ("clip_14b.py",), of_clip, ("--small",)),
    Row("adapters", ("adapters.py",), of_adapters),
    Row("serve", ("serve_14b.py",), of_serving, ("--small",)),
    *(
        Row(
            f"clip-{name}",
            ("clips_14b.py", "run", *arguments),
            of_clips,
            ("--small",),
            2 if "--ranks" in arguments else 1,
        )
        for name, *arguments in CLIPS_OF_SERVICES
    ),
)


STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lossless", ("--profiles", "Lossless", "--backends", "Native", "xDiT")),
    ("balanced", ("--profiles", "Balanced")),
    ("fast", ("--profiles", "Fast")),
)
"""Of step_14b.py: guidance with each half of the GPUs on a pass, and none, in each row."""
FULL = ((41, 1), (81, 2), (81, None))
"""Frames, and GPUs that share a clip (None: all), of full fine-tuning."""
CAP = ("--cap", "78.4")
"""GiB that an 80 GB card leaves to tensors: eight are to be enough."""
WORK = ("--work", str(Path(tempfile.gettempdir()) / "clips-14b"), "--quiet")
"""The model that clips_14b.py has, written once."""


def gang(gpus: int) -> tuple[Row, ...]:
    """Rows of so many GPUs, and of one of them beside."""
    ranks, small = ("--ranks", str(gpus)), ("--small",)
    served = small if gpus <= TINY_HEADS else None
    rings = [ring for ring in (2, 4) if 2 * ring <= gpus]
    shared = (
        *(
            Row(f"x{gpus}-step-{name}", ("step_14b.py", *ranks, *rest), of_step, small)
            for name, rest in STEPS
        ),
        *(
            Row(
                f"x{gpus}-ring-{ring}",
                ("step_14b.py", *ranks, "--profiles", "Lossless", "--backends", "xDiT",
                 "--ring", str(ring)),
                of_step,
                small,
            )
            for ring in rings
        ),
        Row(f"x{gpus}-usp", ("usp_14b.py", *ranks), of_usp, small),
        Row(f"x{gpus}-decode", ("decode_14b.py", *ranks), of_decode, small),
        Row(f"x{gpus}-ranks", ("train_ranks_14b.py", *ranks, "--seconds", "330"), of_ranks, small),
        *(
            Row(
                f"x{gpus}-zero-3-{frames}-{sequence or gpus}",
                ("zero_full.py", *ranks, "--frames", str(frames), "--sequence",
                 str(sequence or gpus), "--clips", str(gpus // (sequence or gpus)),
                 *(CAP if gpus == 8 else ())),
                of_zero,
                SMALL_ZERO,
            )
            for frames, sequence in FULL
        ),
        Row(f"x{gpus}-serve", ("serve_14b.py", *ranks, *WORK), of_serving, served),
        *(
            Row(
                f"x{gpus}-clip-{clip}",
                ("clips_14b.py", "run", *ranks, "--profile", clip.title(), "--clip", clip),
                of_clips,
                served,
            )
            for clip in ("lossless", "balanced", "fast")
        ),
    )  # fmt: skip
    alone = Row("one", ("step_14b.py", "--ranks", "1", "--profiles", "Lossless"), of_step, small)
    return (alone, *(replace(row, gpus=gpus) for row in shared))


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=1, choices=(1, 4, 8),
                        help="rows of so many GPUs of this machine")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"), help="folder of the rows")
    parser.add_argument("--rows", default="", help="only rows whose name this pattern finds")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    parser.add_argument("--queue", type=int, metavar="GPUS",
                        help="run the rows side by side on so many, and do not wait")  # fmt: skip
    parser.add_argument("--seconds", type=float, help="of --queue: begin nothing after them")
    options = parser.parse_args(arguments)
    if options.small:
        options.out /= "small"  # beside a row of real size it would be read as one
    options.out.mkdir(parents=True, exist_ok=True)
    for line in stated.set_aside(options.out):
        print(line, flush=True)
    if rows is None:
        rows = ROWS if options.gpus == 1 else gang(options.gpus)
    limit = LIMIT_SECONDS if options.gpus == 1 else GANG_SECONDS
    wanted = [row for row in rows if re.search(options.rows, row.name)]
    if options.small:
        wanted = [row for row in wanted if row.small is not None]
    if options.queue:
        hand_over(wanted, options, limit)
        return 0
    failed = [row.name for row in wanted if not take(row, options.out, limit, small=options.small)]
    shown = "\n".join(table(rows, options.out))
    (options.out / "measurements.md").write_text(f"{shown}\n")
    if options.gpus > 1:
        beside = "\n".join(predictions(options.out, options.gpus))
        (options.out / "predicted.md").write_text(f"{beside}\n")
        print(beside, flush=True)
    if not options.small and shutil.which("nvidia-smi"):
        refresh = [sys.executable, str(ROOT / "tests/gpu/refreshed.py"), str(options.out)]
        subprocess.run(refresh, env=environment(), check=True)
    print("\n".join(table(wanted, options.out)), flush=True)
    return 1 if failed else 0


def take(row: Row, folder: Path, limit: float, *, small: bool) -> bool:
    """Whether the row is there, taken now or before."""
    done, partial = files(row, folder)
    if done.is_file():
        print(f"{row.name}: done before", flush=True)
        return True
    began = time.monotonic()
    code = run(command_of(row, folder, small=small), limit)
    ended = f"stopped after {limit:.0f} s" if code is None else f"exit {code}"
    print(f"{row.name}: {ended}, {time.monotonic() - began:.0f} s", flush=True)
    if code == 0:
        partial.rename(done)
    return code == 0


def hand_over(rows: Sequence[Row], options: argparse.Namespace, limit: float) -> None:
    """To the queue, those of several GPUs first: then none is idle but at the end. What is done,
    waits or runs is left out."""
    folder, out = options.out.resolve() / "queue", options.out.resolve()
    open_queue(folder, options.queue, options.seconds)
    there = {job.name for job in read(folder).jobs if job.state not in ENDED}
    jobs: list[Job] = []
    for row in rows:
        gpus = row.gpus or options.queue
        if files(row, out)[0].is_file() or row.name in there:
            print(f"{row.name}: done before, or in the queue", flush=True)
        elif gpus > options.queue:
            print(f"{row.name}: needs {gpus} GPUs", flush=True)
        else:
            job = here(row.name, command_of(row, out, small=options.small), environment())
            done, partial = files(row, out)
            job.gpus, job.limit, job.result = gpus, limit, (str(partial), str(done))
            jobs.append(job)
    add(folder, *sorted(jobs, key=lambda job: -job.gpus))
    status = f"python tests/gpu/scheduler.py {folder} status"
    print(f"{len(jobs)} rows in the queue; `{status}` tells of them, `wait` waits", flush=True)


def files(row: Row, folder: Path) -> tuple[Path, Path]:
    """Of a row that is done, and of one that is not yet."""
    return folder / f"{row.name}.json", folder / f"{row.name}.partial"


def command_of(row: Row, folder: Path, *, small: bool) -> list[str]:
    script, *rest = row.command
    return [
        *(sys.executable, str(ROOT / "tests/gpu" / script), *filled(rest, folder)),
        *((row.small or ()) if small else ()),
        *("--out", str(files(row, folder)[1])),
    ]


def run(command: Sequence[str], limit: float) -> int | None:
    """Exit code; None if it had to be stopped. Nothing of it stays on the GPU."""
    process = subprocess.Popen(command, env=environment(), start_new_session=True)
    try:
        return process.wait(timeout=limit)
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
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [*(str(ROOT / name) for name in ("runtime", "tests")), *filter(None, given)]
    return {
        # Multicast over NVLink is not there on every host, and our exchange has no use for it.
        "NCCL_NVLS_ENABLE": "0",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
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
