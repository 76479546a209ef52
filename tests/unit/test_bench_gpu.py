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
from gpu.bench import ROWS, SHAPES, Row, main
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
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [
        "both.json",
        "measurements.md",
    ]
    assert json.loads((tmp_path / "rows/both.json").read_text())["arguments"] == ["1", "--tiny"]


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


def test_every_row_has_its_script_and_a_name_of_its_own() -> None:
    assert len({each.name for each in ROWS}) == len(ROWS)
    for each in ROWS:
        assert (bench.ROOT / "tests/gpu" / each.command[0]).is_file()


def test_what_was_measured_is_put_into_the_planners_rows(tmp_path: Path) -> None:
    for name, content in {
        "forward": {"passes": [{"name": each, "seconds": took, "peakGiB": 41.9}
                               for each, took in (("Exact", 12.0), ("Lossless", 9.5),
                                                  ("Fast", 7.5), ("Fast", 7.0),
                                                  ("Fast with LoRA", 7.4))]},
        "clip": [{"profile": "Lossless", "stepSeconds": 18.0, "peakGiB": 42.0}, {"bytes": 1}],
        "decode": [{"ranks": 1, "seconds": 1.5, "peakGiB": 9.0},
                   {"ranks": 2, "seconds": 1.0, "peakGiB": 5.0, "off": 4}],
        "step": [{"profile": "Lossless", "backend": backend, "ranks": 2, "guidance": guidance,
                  "seconds": took}
                 for backend, guidance, took in (("Native", 5.0, 10.0), ("Native", 1.0, 5.0),
                                                 ("xDiT", 1.0, 1.0))],
        "step-Wan2.1-I2V-14B-720P-81": {"rows": [
            {"row": "Wan2.1-I2V-14B-720P 81 frames ours-Offload", "secondsPerStep": 40.0,
             "peakAllocatedGiB": 50.0, "peakReservedGiB": 80.0, "error": None}]},
    }.items():  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    known = json.loads((bench.ROOT / "runtime/wan_runtime/planner/measured.json").read_text())
    made, changes = refreshed(known, tmp_path, "H200-141GB")
    table = Measured.model_validate(made)
    passes = table.profiles("Forward")
    assert [passes[each].seconds for each in ("Lossless", "Balanced", "Fast")] == [9.0, 8.015, 7.0]
    assert passes["Lossless"].allocated_gib == 42.0
    assert table.profiles("Decode")["Lossless"].seconds == 1.5
    assert table.scaling.model_dump(exclude={"source"}) == {
        "cfg_parallel": 1.8, "ulysses": 1.8, "decode": 1.5,
    }  # fmt: skip
    offload = next(each for each in table.rows if each.id == "train-wan21-81-offload")
    assert (offload.seconds, offload.allocated_gib, offload.reserved_gib) == (40.0, 50.0, 80.0)
    before = {json.dumps(each) for each in known["rows"]}
    assert sum(json.dumps(each) not in before for each in made["rows"]) == 4, "the others stay"
    assert "decode-81-own: seconds 1.718 -> 1.5" in changes
    other, why = refreshed(known, tmp_path, "A100-80GB")
    assert other == known
    assert "not of A100-80GB" in why[0]
