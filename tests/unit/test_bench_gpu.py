"""`make bench-gpu`: rows are taken once, and a bench that was cut short goes on."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu import bench
from gpu.bench import ROWS, SHAPES, Row, gang, main
from gpu.refreshed import refreshed
from wan_runtime.planner.rows import Measured

SCRIPT = """
import json, pathlib, sys
calls, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[-1])
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
out.write_text(json.dumps({"arguments": sys.argv[2:-2]}))
sys.exit(len(calls.read_text()) < int(sys.argv[2]))
"""
SHAPE = r'  Row\("([^"]+)", "[^"]+", (\d+)'
"""In a script that takes seconds to import."""


def row(folder: Path, name: str, succeeds_at: int, **more: Any) -> Row:
    """A row that notes each time it is taken, and fails until `succeeds_at`."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = (str(script), str(folder / f"{name}.calls"), str(succeeds_at))
    return Row(name, command, lambda content: [" ".join(content["arguments"])], **more)


def test_what_is_done_is_not_taken_again_and_what_failed_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(tmp_path, "sound", 1), row(tmp_path, "flaky", 2)]
    out = ["--out", str(tmp_path / "rows")]
    assert main(out, rows) == 1
    assert "| flaky | not taken |" in capsys.readouterr().out
    assert main(out, rows) == 0
    shown = capsys.readouterr().out
    assert "sound: done before" in shown
    assert shown.endswith("| --- | --- |\n| sound | 1 |\n| flaky | 2 |\n")
    assert [(tmp_path / f"{name}.calls").read_text() for name in ("sound", "flaky")] == ["x", "xx"]


def test_small_takes_the_rows_that_have_a_tiny_size(tmp_path: Path) -> None:
    rows = [row(tmp_path, "large", 1), row(tmp_path, "both", 1, small=("--tiny",))]
    assert main(["--out", str(tmp_path / "rows"), "--small"], rows) == 0
    small = tmp_path / "rows/small"
    assert sorted(path.name for path in small.iterdir()) == [
        "both.json",
        "measurements.md",
    ]
    assert json.loads((small / "both.json").read_text())["arguments"] == ["1", "--tiny"]


def test_a_row_that_does_not_end_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    script = tmp_path / "endless.py"
    child = f"open({str(pipe)!r}, 'w'); import signal; signal.pause()"
    script.write_text(
        f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-c', {child!r}])"
    )
    monkeypatch.setattr(bench, "LIMIT_SECONDS", 1.0)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    endless = Row("endless", (str(script),), lambda content: [])
    assert main(["--out", str(tmp_path / "rows")], [endless]) == 1
    assert "endless: stopped after 1 s" in capsys.readouterr().out
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "whoever had it open for writing is gone"
    os.close(reader)


def test_every_shape_of_a_training_step_is_a_row() -> None:
    text = (bench.ROOT / "tests/gpu/train_step_14b.py").read_text()
    there = {(model, int(frames)) for model, frames in re.findall(SHAPE, text)}
    assert there == {(model, frames) for model, lengths in SHAPES for frames in lengths}


@pytest.mark.parametrize("rows", [ROWS, gang(4), gang(8)], ids=[1, 4, 8])
def test_every_row_has_its_script_and_a_name_of_its_own(rows: tuple[Row, ...]) -> None:
    assert len({each.name for each in rows}) == len(rows)
    for each in rows:
        assert (bench.ROOT / "tests/gpu" / each.command[0]).is_file()


def test_rows_of_several_gpus_stand_beside_what_the_planner_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {
        "profile": "Lossless",
        "backend": "Native",
        "ranks": 4,
        "layers": 40,
        "guidance": 5.0,
        "layout": "Native: CFG 2 x Ulysses 2",
        "seconds": 5.3,
        "peakGiB": 38.5,
        "alike": True,
    }
    lora = {
        "row": "GPUs 4, clips 2, turn 1",
        "ranks": 4,
        "sequence": 2,
        "layers": 40,
        "secondsPerStep": 21.0,
        "allocatedGiB": 71.0,
    }
    full = {
        "layers": 40,
        "ranks": 4,
        "sequence": 2,
        "frames": 81,
        "clips": 2,
        "stage": 3,
        "offload": "None",
        "last": {"seconds": 31.0},
        "allocatedGiB": 88.0,
        "probes": [1.0, 0.9],
    }
    for name, content in {
        "x4-step-lossless": [step, step | {"guidance": 1.0, "seconds": 2.7},
                             step | {"layers": 8, "seconds": 1.1}],
        "x4-decode": [{"dtype": "float16", "ranks": each, "seconds": 2.4 / each, "peakGiB": 9.0,
                       "errorMost": 0.5} for each in (1, 4)],
        "x4-ranks": {"rows": [lora]},
        "x4-zero-3-81-2": full,
        "x4-zero-3-41-1": {name: each for name, each in full.items() if name != "sequence"},
        "x4-usp": [{"ranks": 4, "error": "ImportError: no xfuser"}],
    }.items():  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert main(["--out", str(tmp_path), "--gpus", "4", "--rows", "x4-(step-l|dec|ranks|usp)"]) == 0
    shown = capsys.readouterr().out
    assert "| x4-usp | diffsynth's USP, 4 GPUs: ImportError: no xfuser |" in shown
    beside = (tmp_path / "predicted.md").read_text()
    assert (
        "| Lossless, guidance, Native: CFG 2 x Ulysses 2, 4 GPUs, a step | 5.32 s, 37.6 GiB | "
        "5.3 s, 38.5 GiB |\n"
    ) in beside
    assert "a step | 2.72 s, 34.6 GiB | 2.7 s, 38.5 GiB |" in beside
    assert "1.1 s" not in beside, "of eight layers"
    assert "x4-zero-3-41-1: its rows lack sequence: taken anew\n" in shown
    assert "| x4-zero-3-41-1 | not taken |" in (tmp_path / "measurements.md").read_text()
    [decoding] = [each for each in beside.splitlines() if each.startswith("| decoding")]
    assert decoding.startswith("| decoding in float16, 4 GPUs | 0.578 s")
    assert decoding.endswith(" | 0.6 s |")
    assert "| LoRA, GPUs 4, clips 2, turn 1 | 20.8 s, 57.8 GiB | 21 s, 71.0 GiB |" in beside
    assert (
        "| all weights, 81 frames, 4 GPUs, 2 for each clip | 30.8 s, 86.9 GiB | 31 s, 88.0 GiB |"
    ) in beside


def test_what_was_measured_is_put_into_the_planners_rows(tmp_path: Path) -> None:
    """And what several GPUs took, or a part of the layers, is not."""
    whole = {"ranks": 1, "layers": 40}
    clip = {"clip": "balanced", "quality": "balanced", "steps": 40, "ranks": 1,
            "stages": {"denoising": 320.0}, "start": {"size": "1280x720"}}  # fmt: skip
    for name, content in {
        "forward": {"passes": [{"name": each, "seconds": took, "peakGiB": 41.9}
                               for each, took in (("Exact", 12.0), ("Lossless", 9.5),
                                                  ("Fast", 7.5), ("Fast", 7.0),
                                                  ("Fast with LoRA", 7.4))]},
        "clip": [{"profile": "Lossless", "stepSeconds": 18.0, "peakGiB": 42.0}, {"bytes": 1}],
        "decode": [{"dtype": dtype, "ranks": ranks, "seconds": took, "peakGiB": 9.0}
                   for dtype, ranks, took in (("float16", 1, 1.5), ("float16", 2, 1.0),
                                              ("bfloat16", 1, 1.4), ("bfloat16", 2, 0.9))],
        "step": [{"profile": "Lossless", "backend": backend, "ranks": 2, "guidance": guidance,
                  "seconds": took, "layers": layers, "layout": "of both"}
                 for backend, guidance, took, layers in (
                     ("Native", 5.0, 10.0, 40), ("Native", 1.0, 5.0, 40), ("xDiT", 1.0, 1.0, 40),
                     ("Native", 5.0, 2.5, 8))],
        "step-Wan2.1-I2V-14B-720P-81": {"rows": [
            {"row": "Wan2.1-I2V-14B-720P 81 frames ours-Offload", "secondsPerStep": 40.0,
             "peakAllocatedGiB": 50.0, "peakReservedGiB": 80.0, "error": None} | whole]},
        "step-Wan2.2-I2V-A14B-81": {"rows": [
            {"row": "Wan2.2-I2V-A14B 81 frames ours-KeepAttention", "secondsPerStep": 37.0,
             "peakAllocatedGiB": 100.0, "peakReservedGiB": 101.0, "error": None} | whole]},
        "step-Wan2.1-I2V-14B-720P-61": {"rows": [
            {"row": "Wan2.1-I2V-14B-720P 61 frames ours-KeepAttention", "secondsPerStep": 12.0,
             "peakAllocatedGiB": 60.0, "peakReservedGiB": 70.0, "error": None}
            | whole | {"ranks": 2}]},
        "step-Wan2.1-I2V-14B-720P-25": {"rows": [
            {"row": "Wan2.1-I2V-14B-720P 25 frames ours", "secondsPerStep": 5.0,
             "peakAllocatedGiB": 50.0, "peakReservedGiB": 50.0, "error": None}]},
        "turns-Wan2.2-I2V-A14B-81": {"preset": "Wan2.2-I2V-A14B", "frames": 81, **whole, "rows": {
            "ours-KeepAttention": {"secondsPerStep": 38.0, "allocatedGiB": 102.0},
            "ours-KeepAttention-deterministic": {"secondsPerStep": 41.0}}},
        "clip-balanced": [clip, clip | {"adapters": ["turbo"], "steps": 4}],
        "clip-fast": [clip | {"quality": "fast", "ranks": 2}],
    }.items():  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    known = json.loads((bench.ROOT / "runtime/wan_runtime/planner/measured.json").read_text())
    made, changes = refreshed(known, tmp_path, "H200-141GB")
    table = Measured.model_validate(made)
    passes = table.profiles("Forward")
    assert [passes[each].seconds for each in ("Lossless", "Balanced", "Fast")] == [9.0, 8.0, 7.0]
    assert passes["Lossless"].allocated_gib == 42.0
    presets = [passes[each].preset for each in ("Balanced", "Fast")]
    assert presets == ["Wan2.2-I2V-A14B", "Wan2.1-I2V-14B-720P"], "a whole clip, and a pass"
    assert table.profiles("Decode")["Lossless"].seconds == 1.5
    assert table.scaling.model_dump(exclude={"source"}) == {
        "cfg_parallel": 1.8, "ulysses": 1.8, "decode": 1.5,
    }  # fmt: skip
    offload = next(each for each in table.rows if each.id == "train-wan21-81-offload")
    assert (offload.seconds, offload.allocated_gib, offload.reserved_gib) == (40.0, 50.0, 80.0)
    assert [each.seconds for each in table.repeatable] == [41.0, 38.0], "of one turn"
    before = {json.dumps(each) for each in known["rows"]}
    assert sum(json.dumps(each) not in before for each in made["rows"]) == 7, "the others stay"
    assert "decode-81-own: seconds 1.762 -> 1.5" in changes
    left = "step-Wan2.1-I2V-14B-720P-25.json is left out, its rows lack ranks, layers: take them"
    assert [each for each in changes if "left out" in each] == [f"{left} anew"]
    other, why = refreshed(known, tmp_path, "A100-80GB")
    assert other == known
    assert "not of A100-80GB" in why[0]
