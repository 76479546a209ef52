"""Commands on the GPUs of one machine: which begin when, and what becomes of them."""

from __future__ import annotations

import os
import re
import select
from pathlib import Path

import pytest

from gpu import bench, scheduler
from gpu.bench import Row
from gpu.scheduler import Job, Queue, add, drop, here, open_queue, read, wait

PATIENCE = 300
"""Seconds until what is waited for must be there."""


def job(name: str, gpus: int, seconds: float = 0.0) -> Job:
    return Job(name, ["true"], gpus=gpus, seconds=seconds)


def names(jobs: list[Job]) -> list[str]:
    return [each.name for each in jobs]


def test_one_gpu_each_until_all_are_taken() -> None:
    queue = Queue(2, None, [job("a", 1), job("b", 1), job("c", 1)])
    assert names(queue.begin(0.0)) == ["a", "b"]
    assert [each.devices for each in queue.jobs] == [[0], [1], []]
    assert queue.begin(1.0) == []
    queue.jobs[0].state = "done"
    assert names(queue.begin(2.0)) == ["c"]
    assert queue.jobs[2].devices == [0]


def test_what_waits_for_both_is_overtaken_by_what_ends_before_they_are_free_alone() -> None:
    queue = Queue(2, None, [job("long", 1, 100), job("both", 2, 10), job("late", 1, 90),
                            job("unknown", 1), job("short", 1, 80)])  # fmt: skip
    assert names(queue.begin(0.0)) == ["long", "late"]
    queue.jobs[2].state = "done"
    assert names(queue.begin(15.0)) == ["short"]
    queue.jobs[4].state = "done"
    assert queue.begin(95.0) == [], "nobody knows how long the last one takes"
    queue.jobs[0].state = "done"
    assert names(queue.begin(100.0)) == ["both"]


def test_nothing_begins_that_is_expected_to_end_too_late() -> None:
    queue = Queue(2, 100.0, [job("both", 2, 60), job("one", 1, 40), job("unknown", 1)])
    assert names(queue.begin(50.0)) == ["one", "unknown"], "of what fits, the first"
    queue = Queue(1, 100.0, [job("unknown", 1)])
    assert queue.begin(100.0) == []


def test_jobs_that_cannot_run_are_refused(tmp_path: Path) -> None:
    open_queue(tmp_path / "two", 2, None)
    for given, said in (
        (job("three", 3), "three needs 3 GPUs; the queue has 2"),
        (job("a/b", 1), "'a/b' names no file"),
        (Job("one", ["true"], environment={"CUDA_VISIBLE_DEVICES": "7"}),
         "CUDA_VISIBLE_DEVICES is '7'; the queue has 2 GPUs"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            add(tmp_path / "two", given)
    assert read(tmp_path / "two").jobs == []
    with pytest.raises(ValueError, match="has no queue: open one first"):
        add(tmp_path / "two" / "none", job("one", 1))
    with pytest.raises(ValueError, match="not in the queue: one"):
        drop(tmp_path / "two", ["one"])


def shell(name: str, line: str, gpus: int = 1) -> Job:
    made = here(name, ["sh", "-c", line], {"PATH": os.environ["PATH"]})
    made.gpus = gpus
    return made


def test_jobs_run_side_by_side_and_tell_what_became_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, folder = tmp_path / "pipe", tmp_path / "queue"
    os.mkfifo(pipe)
    open_queue(folder, 2, None)
    kept = shell("kept", f"echo 5 > {tmp_path}/partial; echo $CUDA_VISIBLE_DEVICES", 2)
    kept.result = (f"{tmp_path}/partial", f"{tmp_path}/whole")
    lost = shell("lost", "true")
    lost.result = (f"{tmp_path}/nothing", f"{tmp_path}/whole")
    absent = here("absent", [str(tmp_path / "no-program")], {})
    add(
        folder,
        shell("reads", f"echo $CUDA_VISIBLE_DEVICES; cat {pipe}"),
        shell("writes", f"echo $CUDA_VISIBLE_DEVICES; echo hello > {pipe}"),
        kept,
        shell("fails", "echo because; exit 3"),
        lost,
        absent,
    )
    assert wait(folder, PATIENCE) == 1
    said = capsys.readouterr().out
    assert re.search(r"^fails: failed, exit 3, \d+ s, GPU 0: because$", said, re.MULTILINE)
    states = {each.name: each.state for each in read(folder).jobs}
    assert states == dict.fromkeys(("reads", "writes", "kept"), "done") | dict.fromkeys(
        ("fails", "lost", "absent"), "failed"
    )
    logs = [(folder / f"{name}.log").read_text() for name in ("reads", "writes", "kept")]
    assert logs == ["0\nhello\n", "1\n", "0,1\n"]
    assert (tmp_path / "whole").read_text() == "5\n"
    assert "no-program" in (folder / "absent.log").read_text()
    again = shell("fails", "true")
    add(folder, again)
    assert wait(folder, PATIENCE) == 1, "of the others"
    assert names(read(folder).of("done"))[-1] == "fails"


def test_what_is_dropped_leaves_its_gpus_and_what_waits_never_begins(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "alive", tmp_path / "queue"
    os.mkfifo(pipe)
    open_queue(folder, 1, None)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    endless = shell("endless", f"(echo x; exec sleep 900) > {pipe} & wait")
    add(folder, endless, shell("never", "true"), shell("next", "true"))
    assert select.select([reader], [], [], PATIENCE)[0]
    assert os.read(reader, 2) == b"x\n"
    assert wait(folder, 0) == 2
    drop(folder, ["endless", "never"])
    assert wait(folder, PATIENCE) == 0
    assert select.select([reader], [], [], PATIENCE)[0]
    assert os.read(reader, 1) == b"", "whoever had it open for writing is gone"
    os.close(reader)
    assert [each.state for each in read(folder).jobs] == ["dropped", "dropped", "done"]
    assert not (folder / "never.log").exists()


def test_a_bench_hands_its_rows_over_and_finds_them_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, pathlib, sys\n"
        "pathlib.Path(sys.argv[-1]).write_text(json.dumps(os.environ['CUDA_VISIBLE_DEVICES']))\n"
    )
    rows = [
        Row(name, (str(script),), lambda content: [content], gpus=gpus)
        for name, gpus in (("one", 1), ("all", None), ("many", 4))
    ]
    out = ["--out", str(tmp_path / "rows")]
    assert bench.main([*out, "--queue", "2"], rows) == 0
    assert "many: needs 4 GPUs\n2 rows in the queue" in capsys.readouterr().out
    assert wait(tmp_path / "rows/queue", PATIENCE) == 0
    assert names(read(tmp_path / "rows/queue").jobs) == ["all", "one"]
    assert bench.main([*out, "--queue", "2"], rows) == 0
    assert "0 rows in the queue" in capsys.readouterr().out
    assert bench.main(out, rows[:2]) == 0
    assert capsys.readouterr().out.endswith("| one | 0 |\n| all | 0,1 |\n")


def test_a_runner_that_was_killed_is_replaced(tmp_path: Path) -> None:
    open_queue(tmp_path, 1, None)
    left = job("left", 1)
    left.state, left.devices, left.began = "running", [0], 1.0
    scheduler.write(tmp_path, Queue(1, None, [left, shell("waits", "true")]))
    assert wait(tmp_path, PATIENCE) == 1
    assert [each.state for each in read(tmp_path).jobs] == ["failed", "done"]
