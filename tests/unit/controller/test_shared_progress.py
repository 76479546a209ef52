"""Progress of steps that run side by side: one sum, which no end of one of them sets back."""

from __future__ import annotations

from unit.controller.test_parallel import HIGH, LOW, parallel
from unit.controller.world import World
from wan_runtime.contract.job import Checkpoint, ExitClass, ManifestRef, Progress
from wan_runtime.contract.reasons import Reason


def test_progress_is_the_sum_and_the_slowest_decides_when() -> None:
    world = parallel()
    for step, current, eta, loss in (("high", 40, 250.0, 0.5), ("low", 20, 900.0, 0.25)):
        world.says(
            Progress(
                step_id=f"train-{step}-noise",
                activity="training",
                current=current,
                total=200,
                eta_seconds=eta,
                loss=loss,
            )
        )
    world.settle()
    progress = world.status["progress"]
    assert (progress["display"], progress["eta"], progress["loss"]) == (
        "train 60/400",
        "15m0s",
        "0.5, 0.25",
    )
    world.passes(60)
    del world.answers["train-low-noise"]
    world.settle()
    assert world.status["progress"] == progress, "half of the sum would be a step back"
    world.ends(ExitClass.DONE, name=LOW)
    world.settle()
    assert world.status["progress"]["display"] == "train 240/400", "it stays in the sum"
    world.passes(60)
    world.ends(ExitClass.INFRASTRUCTURE, name=HIGH)
    world.settle()
    world.passes(60)
    world.settle()
    assert world.status["progress"]["display"] == "train 240/400"


def test_a_store_that_gives_no_answer_is_named_until_it_does() -> None:
    world = World()
    world.settle()
    world.starts()
    word = "http://minio:9000: nothing listens there"
    world.says(Progress(step_id="prepare", activity="starting", waits_for=word))
    world.settle()
    assert world.leading == ("Running", "StoreUnreachable")
    assert word in world.status["conditions"][0]["message"]
    world.answers.clear()
    world.passes(5)
    world.settle()
    assert world.leading == ("Running", "StoreUnreachable"), "not read again yet"
    world.says(Progress(step_id="prepare", activity="checking clips"))
    world.passes(60)
    world.settle()
    assert world.leading == ("Running", "StepRunning")
    away = Reason.SERVICE_UNREACHABLE
    said_away = Progress(step_id="prepare", activity="asking", waits_for=word, waits_reason=away)
    world.says(said_away)
    world.passes(60)
    world.settle()
    assert world.leading == ("Running", "ServiceUnreachable")
    assert "candidates[].serviceRef" in world.status["conditions"][0]["message"]
    world.ends(ExitClass.INFRASTRUCTURE)
    world.settle()
    assert not world.status["progress"].get("waitsFor"), "what has ended waits for nothing"


def test_the_progress_of_parts_counts_those_that_are_done_by_their_own_words() -> None:
    world = World(dataset={"source": "s3://data/clips", "encodeParallelism": 3})
    world.at_once = 3
    world.settle()
    world.ends(ExitClass.DONE)
    world.settle()
    names = [f"demo-encode-part{number}-1" for number in (1, 2, 3)]
    for name in names:
        world.starts(name)
    world.ends(ExitClass.DONE, name=names[0], summary={"train": 6, "heldOut": 1})
    world.ends(ExitClass.INFRASTRUCTURE, name=names[1])
    said = Progress(step_id="encode-part3", activity="encoding", current=2, total=5, unit="clips")
    world.says(said)
    world.settle()
    assert world.status["progress"]["display"] == "encode 9/17", "7 of 7, 2 of 5 and none of 5"


def test_one_that_waits_counts_as_far_as_it_is_safe() -> None:
    world = parallel()
    for name in ("high", "low"):
        saved = ManifestRef(uri=f"s3://wan/{name}", sha256="a" * 64)
        world.says(
            Progress(
                step_id=f"train-{name}-noise",
                activity="training",
                current=50,
                total=200,
                checkpoint=Checkpoint(step=40, manifest=saved, saved=world.now),
            )
        )
    world.settle()
    assert world.status["progress"]["display"] == "train 100/400"
    world.passes(60)
    world.ends(ExitClass.INFRASTRUCTURE, name=LOW)
    world.settle()
    assert world.status["progress"]["display"] == "train 90/400", "ten steps are lost"
