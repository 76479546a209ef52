"""Every measurement on a GPU, one command a row, each under 15 minutes: `make bench-gpu`.

A row's command leaves its figures in `--out` as JSON. Rows that are there are not taken again, so a
bench that was cut short, or whose machine was lent for half an hour, is continued by repeating it.
`--small` runs what has tiny sizes, to try the code out on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def of_steps(content: Any) -> list[str]:
    return [
        f"{row['row']}: {row['error'] or seconds(row)}{gib(row.get('peakAllocatedGiB'))}"
        for row in content["rows"]
    ]


def of_turns(content: Any) -> list[str]:
    return [
        f"{content['preset']}, {content['frames']} frames, {code}: {seconds(row)}"
        f"{gib(row.get('allocatedGiB'))}, {row['over']} of ours"
        for code, row in content["rows"].items()
    ]


def of_float8(content: Any) -> list[str]:
    return [
        f"{row['frames']} frames{', held to 48 GB' if row['capped'] else ''}: "
        + (row.get("error") or f"{row['seconds'][-1]:.4g} s a step{gib(row.get('allocatedGiB'))}")
        for row in content["rows"]
    ]


def of_repeatable(content: Any) -> list[str]:
    return [
        f"{mode}: {row['overDefault']} of the default step, equal steps differ by "
        f"{row['stepsDifferBy']:.2g}"
        for mode, row in content.items()
        if isinstance(row, dict)
    ]


def of_ranks(content: Any) -> list[str]:
    return [
        f"{row['row']}: {seconds(row)}{gib(row.get('allocatedGiB'))}" for row in content["rows"]
    ]


def of_encode(content: Any) -> list[str]:
    return [
        f"{row['encoder']}: {row['clipsPerSecond']} clips a second"
        for row in content["rows"]
        if "clipsPerSecond" in row
    ]


def of_start(content: Any) -> list[str]:
    return [f"compiled kernels {row['folder']}: {row['toFirstStep']} s" for row in content]


def of_full(content: Any) -> list[str]:
    found = [f"learns: {content['learns']['learns']}", f"restores: {content['restores']['equal']}"]
    costs = content.get("costs")
    if costs is not None:
        found.append(f"{costs['layers']} blocks: {seconds(costs)}{gib(costs['peakGiB'])}")
    return found


def of_zero(content: Any) -> list[str]:
    before, after = content["probes"]
    return [
        f"{content['ranks']} GPUs, ZeRO {content['stage']}, offload {content['offload']}: "
        f"{content['last']['seconds']:.4g} s a step{gib(content.get('allocatedGiB'))}, "
        f"loss of probes {before:.3f} -> {after:.3f}"
    ]


def of_gradients(content: Any) -> list[str]:
    worst = {
        (row["model"], code): max(each[code] for each in content if each["model"] == row["model"])
        for row in content
        for code in ("ours", "kept", "diffsynth")
    }
    return [f"{model}, {code}: error {error:.2g}" for (model, code), error in worst.items()]


def of_repeats(content: Any) -> list[str]:
    return [
        f"{row['shape']}, deterministic {row['deterministic']}: {seconds(row)}, "
        f"two runs differ by {row['twoRunsDifferBy']:.2g}, resumed {row['resumedDiffersBy']:.2g}"
        for row in content
    ]


def of_forward(content: Any) -> list[str]:
    passes = [
        f"{row['name']}: {row['seconds']} s{gib(row['peakGiB'])}" for row in content["passes"]
    ]
    return passes + [f"{name}: error {error:.3g}" for name, error in content["errors"].items()]


def of_step(content: Any) -> list[str]:
    return [
        f"{row['profile']}, guidance {row['guidance']}, {row['ranks']} GPUs, {row['backend']}: "
        f"{row['seconds']} s"
        f"{gib(row['peakGiB'])}" + ("" if row["alike"] else ", FAIL: ranks differ")
        for row in content
    ]


def of_decode(content: Any) -> list[str]:
    return [
        f"{row['ranks']} GPUs: {row['seconds']} s{gib(row['peakGiB'])}"
        + (f", off by {row['off']} levels" if "off" in row else "")
        for row in content
    ]


def of_stream(content: Any) -> list[str]:
    return [
        f"{row['size']}: {row['streamed']['seconds']} s{gib(row['streamed']['peakGiB'])}, resident "
        f"{row['resident']['seconds']} s{gib(row['resident']['peakGiB'])}"
        + ("" if row["equal"] else ", FAIL: other bits")
        for row in content
        if "size" in row
    ]


def of_quality(content: Any) -> list[str]:
    return [
        f"{row['model']}, {row['profile']}: {row['psnr']} dB, SSIM {row['ssim']} of Lossless"
        for row in content
    ]


def of_clip(content: Any) -> list[str]:
    return [
        f"{row['profile']}: {row['stepSeconds']} s a step, decoding {row['seconds']['decoding']} s"
        f"{gib(row['peakGiB'])}"
        for row in content
        if "profile" in row
    ]


def of_serving(content: Any) -> list[str]:
    stages = ", ".join(f"{stage} {took:.1f}" for stage, took in content["first"]["stages"].items())
    return [
        f"ready after {content['secondsToReady']} s{gib(content.get('gpuPeakGiB'))}",
        f"{content['steps']} steps, {content['size']}: {content['first']['seconds']} s ({stages})",
        f"another LoRA loads in {content['newLora']['stages']['loading']:.2f} s",
        f"cancelled in {content['cancelSeconds']} s",
    ]


def of_clips(content: Any) -> list[str]:
    return [
        f"{row['clip']}, GPUs: {row['ranks']}: {row['seconds']} s ("
        + ", ".join(f"{stage} {took:.1f}" for stage, took in row["stages"].items())
        + f"), ready after {row['start']['secondsToReady']} s"
        for row in content
    ]


def of_checks(content: Any) -> list[str]:
    failed = [check["check"] for check in content["checks"] if not check["passed"]]
    return [
        f"{len(content['checks']) - len(failed)} checks pass",
        *(f"FAIL {one}" for one in failed),
    ]


def of_adapters(content: Any) -> list[str]:
    return [
        f"{row['preset']}: error {row['error']:.3g}, merged {row['error of merged weights']:.3g}"
        + ("" if row["ok"] else ", FAIL")
        for row in content
    ]


def seconds(row: Any) -> str:
    return f"{row['secondsPerStep']:.4g} s a step"


def gib(value: float | None) -> str:
    return "" if value is None else f", {value:.1f} GiB"


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
