"""Progress: the estimate, the file, the log."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wan_runtime.contract.job import Checkpoint, ManifestRef, Progress
from wan_runtime.process import progress
from wan_runtime.process.progress import Reporter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def published(folder: Path) -> Progress:
    return Progress.model_validate_json((folder / progress.FILE).read_bytes())


def test_the_estimate_follows_the_recent_pace_and_ignores_a_hiccup(clock: Clock) -> None:
    report = Reporter("train", clock=clock, terminal=False)
    report.update(activity="training", total=100, current=0)
    assert report.progress.eta_seconds is None
    for step in range(1, 51):
        clock.now += 60 if step in (1, 20, 40) else 2  # compiling, two checkpoints
        report.update(current=step)
    assert report.progress.eta_seconds == pytest.approx(100)
    for step in range(51, 91):
        clock.now += 1
        report.update(current=step)
    assert report.progress.eta_seconds == pytest.approx(10)
    report.update(current=100)
    assert report.progress.eta_seconds == 0


def test_what_gives_no_answer_is_published_at_once_until_it_does(
    tmp_path: Path, clock: Clock
) -> None:
    report = Reporter("prepare", tmp_path, clock=clock, terminal=False)
    assert not published(tmp_path).waits_for
    report.waits_for("http://minio:9000: nothing listens there")
    report.update(activity="checking clips", total=3)
    assert published(tmp_path).waits_for == "http://minio:9000: nothing listens there"
    report.waits_for("")
    assert not published(tmp_path).waits_for


def test_the_estimate_counts_units_not_updates(clock: Clock) -> None:
    report = Reporter("encode", clock=clock, terminal=False)
    report.update(activity="encoding", total=100)
    for done in (10, 20, 30):
        clock.now += 5
        report.update(current=done)
    assert report.progress.eta_seconds == pytest.approx(35)


def test_a_transfer_is_counted_in_megabytes_once_a_second(clock: Clock) -> None:
    report = Reporter("encode", clock=clock, terminal=False)
    tell = report.counting("fetching", 10**9 + 1)
    assert (report.progress.current, report.progress.total) == (0, 1001)
    for _ in range(500):
        clock.now += 0.25
        tell(10**6)
    now = report.progress
    assert (now.activity, now.current, now.unit) == ("fetching", 500, "MB")
    assert now.eta_seconds == pytest.approx(501 * 0.25, abs=0.1)
    tell(500 * 10**6 + 1)
    assert (report.progress.current, report.progress.eta_seconds) == (1001, 0)


def test_a_new_activity_starts_over(clock: Clock) -> None:
    report = Reporter("train", clock=clock, terminal=False)
    report.update(activity="training", total=10, current=5, unit="steps", loss=0.5)
    report.update(activity="saving", unit="files")
    now = report.progress
    assert (now.activity, now.current, now.total, now.unit) == ("saving", 0, 0, "files")
    assert now.loss is None
    assert now.eta_seconds is None


def test_it_is_published_at_once_then_at_most_twice_a_second(clock: Clock, tmp_path: Path) -> None:
    report = Reporter("train", tmp_path, clock=clock, terminal=False)
    assert published(tmp_path).activity == "starting"
    report.update(activity="training", total=10, current=0)
    assert published(tmp_path).total == 10
    clock.now = 0.4
    report.update(current=1, loss=0.25)
    assert published(tmp_path).current == 0
    clock.now = 0.6
    report.update(current=2)
    assert (published(tmp_path).current, published(tmp_path).loss) == (2, 0.25)
    clock.now = 0.7
    report.update(current=10)
    assert published(tmp_path).current == 10
    assert [file.name for file in tmp_path.iterdir()] == [progress.FILE]


def test_the_log_gets_a_line_every_ten_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        report = Reporter("train", clock=clock, terminal=False)
        report.update(activity="training", total=60, current=0, loss=1.0)
        for step in range(1, 61):
            clock.now += 0.5
            report.update(current=step, loss=1 / step)
    assert len(caplog.messages) == 4  # the start, 10 s, 20 s, the end at 30 s
    assert caplog.messages[1] == "training, 20/60 steps, loss 0.0500, about 20 s left"
    assert caplog.messages[-1].startswith("training, 60/60 steps")


def test_a_terminal_gets_a_bar_and_no_log(
    clock: Clock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        report = Reporter("train", clock=clock, terminal=True)
        report.update(activity="training", total=4, current=0)
        report.update(current=3, loss=0.125)
        report.close()
    assert caplog.messages == []
    shown = capsys.readouterr().err
    assert "training" in shown
    assert "3/4" in shown
    assert "loss=0.1250" in shown


def test_a_checkpoint_is_published_at_once_and_outlives_the_activity(tmp_path: Path) -> None:
    report = Reporter("train", tmp_path, terminal=False)
    report.update(activity="training", current=4, total=9)
    ref = ManifestRef(uri="s3://wan/checkpoints/step-4/manifest.json", sha256="c" * 64)
    report.saved(Checkpoint(step=4, manifest=ref, saved=datetime.now(UTC)))
    first = published(tmp_path).checkpoint
    assert first is not None
    assert (first.step, first.manifest) == (4, ref)
    report.update(activity="committing the weights")
    assert published(tmp_path).checkpoint == first
