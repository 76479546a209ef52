"""Ranks that train together under one supervisor, with real processes; and how they are judged."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from object_store import ObjectStore
from supervised import Pod
from wan_runtime.contract.job import ExitClass, Progress, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.contract.training import Parallelism
from wan_runtime.errors import InputError
from wan_runtime.process import launch
from wan_runtime.process.children import Ended
from wan_runtime.process.ends import End, judge_all
from wan_runtime.process.stacks import FILE as STACKS_FILE
from wan_runtime.process.stacks import waits
from wan_runtime.process.stuck import Found, Pace, Patience, Watch

Start = Callable[..., Pod]


@pytest.fixture
def start(
    tmp_path: Path, server: ObjectStore, credentials: None, request: pytest.FixtureRequest
) -> Start:
    def start(does: str, nodes: int = 1, gpus: int = 2, **environment: str) -> Pod:
        spread = {"nodes": nodes, "gpusPerNode": gpus}
        pod = Pod(
            tmp_path, server, does, Step.TRAIN, environment,
            parallelism=spread, gradientAccumulation=4,
        )  # fmt: skip
        request.addfinalizer(pod.close)
        return pod

    return start


def test_rank_0_has_the_result_and_the_others_meet_it(start: Start) -> None:
    pod = start("lead,follow")
    ended = pod.end()
    assert ended.result.message == "3 clips train"
    assert ended.result.manifest is not None
    said = dict(line.split("=") for line in (pod.work / "environment-1").read_text().splitlines())
    assert said.pop("MASTER_PORT").isdecimal()
    assert said == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }


def test_a_pod_of_another_node_is_done_without_a_result_of_its_own(start: Start) -> None:
    meet = {"MASTER_ADDR": "demo-0.demo", "MASTER_PORT": "29500", "JOB_COMPLETION_INDEX": "1"}
    pod = start("bug,bug,follow,follow", 2, **meet)
    ended = pod.end()
    assert (ended.code, ended.result.manifest) == (0, None)
    said = (pod.work / "environment-3").read_text()
    assert said.startswith("RANK=3\nWORLD_SIZE=4\nLOCAL_RANK=1\nLOCAL_WORLD_SIZE=2\n")
    assert said.endswith("MASTER_ADDR=demo-0.demo\nMASTER_PORT=29500")


def test_nobody_trains_alone_what_several_are_to_train(start: Start) -> None:
    ended = start("finish", 2).end()
    assert ended.result.reason is Reason.JOB_INVALID
    assert "the environment variable MASTER_ADDR, by which they meet, is not set" in (
        ended.result.message
    )


def test_one_dead_rank_ends_the_others(start: Start) -> None:
    ended = start("wait,die").end()
    assert ended.result.reason is Reason.HOST_OUT_OF_MEMORY
    assert ended.result.message.startswith("rank 1: the step was killed by signal 9")


def test_a_lost_connection_is_not_the_cause(start: Start) -> None:
    ended = start("lose,go").end()
    assert ended.result.reason is Reason.HOST_OUT_OF_MEMORY
    assert ended.result.message == "rank 1: the host's memory ran out: MemoryError"


def test_a_stop_lets_all_ranks_save(start: Start) -> None:
    pod = start("save,save")
    pod.until("training")
    pod.process.terminate()
    ended = pod.end()
    assert ended.code == 40
    assert ended.result.checkpoint is not None


@pytest.mark.parametrize(("gpus", "who"), [(2, "rank 0, 1"), (1, "the step")])
def test_what_is_stuck_is_named_and_its_stack_logged(gpus: int, who: str, start: Start) -> None:
    pod = start("train_and_hang", gpus=gpus)
    ended = pod.end()
    assert (pod.work / "hangs").exists(), "what is not counted may take longer"
    assert ended.result.reason is Reason.STEP_STUCK
    assert ended.result.message.startswith(f"{who} is stuck: no progress for ")
    logged = [json.loads(line) for line in ended.output.splitlines()]
    stacks = [each["message"] for each in logged if "stacks of local rank" in each["message"]]
    assert len(stacks) == gpus
    assert all("in wait_here" in each for each in stacks)


IN_A_STEP = 'Current thread 0x2 (most recent call first):\n  File "a/train.py", line 9 in step\n'
IN_A_COLLECTIVE = IN_A_STEP + '  File "/lib/torch/distributed/c10d.py", line 2 in all_reduce\n'


@pytest.mark.parametrize(
    ("stacks", "leads", "waiting"),
    [
        ([IN_A_COLLECTIVE, IN_A_STEP], False, {0}),
        (["", IN_A_COLLECTIVE], False, {1}),
        ([IN_A_COLLECTIVE, IN_A_COLLECTIVE], False, None),
        ([IN_A_COLLECTIVE, IN_A_COLLECTIVE], True, {0, 1}),
    ],
)
def test_the_pod_of_the_stuck_rank_ends(
    tmp_path: Path, stacks: list[str], leads: bool, waiting: set[int] | None
) -> None:
    folders = [tmp_path / str(place) for place in range(2)]
    for folder, text in zip(folders, stacks, strict=True):
        folder.mkdir()
        (folder / STACKS_FILE).write_text(text)
    steps = iter(range(100))
    looked = threading.Event()

    def read() -> tuple[Progress, bool]:
        step = next(steps, None)
        if step is None:
            looked.set()
        return at(min(step or 7, 7)), True

    children = Mock(running=[])
    patience = Patience(factor=0, least=0.01, every=0.001, dump=0)
    watch = Watch(children, folders, read, patience, leads=leads)
    if waiting is None:
        assert looked.wait(60)
    else:
        watch._thread.join(60)
    watch.close()
    assert watch.found is None if waiting is None else watch.found.waiting == waiting
    assert children.kill.called == (waiting is not None)


def ended(rank: int, status: int, reason: Reason | None = None, killed: bool = False) -> End:
    said = None
    if reason is not None:
        said = Result(
            step_id="train", exit_class=ExitClass(status), reason=reason, message=reason.value
        )
    return End(rank, Ended(rank, status, (), killed), said)


LOST, MEMORY, INPUT = Reason.RANK_LOST, Reason.GPU_OUT_OF_MEMORY, Reason.CLIP_INVALID


@pytest.mark.parametrize(
    ("ends", "reason", "text"),
    [
        ([ended(1, 0), ended(0, 0, Reason.COMPLETED)], Reason.COMPLETED, "Completed"),
        ([ended(0, 0, Reason.COMPLETED), ended(1, -11)], Reason.COMPLETED, "Completed"),
        ([ended(3, 20, MEMORY), ended(0, 30, LOST)], MEMORY, "rank 3: GPUOutOfMemory"),
        ([ended(0, 30, LOST), ended(3, 20, MEMORY)], MEMORY, "rank 3: GPUOutOfMemory"),
        ([ended(2, 10, INPUT), ended(0, 20, MEMORY)], INPUT, "rank 2: ClipInvalid"),
        ([ended(1, 30, LOST), ended(0, -9, killed=True)], LOST, "rank 1: RankLost"),
        ([ended(0, 40, Reason.TERMINATED), ended(1, 30, LOST)], Reason.TERMINATED, "Terminated"),
        (
            [ended(1, -15), ended(0, -9, killed=True)],
            Reason.TERMINATED,
            "stopped on request while starting",
        ),
    ],
)
def test_the_table_of_ends(ends: list[End], reason: Reason, text: str) -> None:
    result = judge_all("train", ends, None, stopping=True)
    assert (result.reason, result.message) == (reason, text)


def test_a_rank_in_a_collective_is_not_the_stuck_one() -> None:
    ends = [ended(rank, -9, killed=True) for rank in (4, 5)]
    found = Found("no progress for 700 s", frozenset({0}))
    ends = [
        End(end.rank, replace(end.process, place=place), None) for place, end in enumerate(ends)
    ]
    one = judge_all("train", ends, found, stopping=False)
    assert (one.reason, one.message.split(":")[0]) == (Reason.STEP_STUCK, "rank 5 is stuck")
    none = judge_all("train", ends, replace(found, waiting=frozenset({0, 1})), stopping=False)
    assert (none.reason, none.message.split(":")[0]) == (LOST, "a rank of another pod is stuck")


def test_the_stack_of_the_main_thread_shows_a_collective() -> None:
    other = 'Thread 0x1 (most recent call first):\n  File "a/torch/distributed/store.py", line 1\n'
    frame = '  File "/lib/torch/distributed/distributed_c10d.py", line 2 in all_reduce\n'
    main = 'Current thread 0x2 (most recent call first):\n  File "a/train.py", line 9 in step\n'
    assert not waits(other + "\n" + main)
    assert waits(other + "\n" + main + frame)
    assert not waits(main + "\n" + other)
    assert not waits(main + frame + "\n" + main), "an earlier signal found it elsewhere"
    assert not waits("")


def at(step: int, **change: object) -> Progress:
    said = {"activity": "training", "current": step, "total": 99, "unit": "steps", **change}
    return Progress(step_id="train", **said)  # type: ignore[arg-type]


def test_only_many_times_the_median_is_stuck() -> None:
    pace = Pace(Patience(factor=10, least=60))
    for step in range(7):
        assert pace.overdue(20.0 * step, at(step), True) is None
    assert pace.overdue(120 + 199, at(6), True) is None
    assert pace.overdue(120 + 201, at(6), True) == (
        "no progress for 201 s after step 6, where a step takes 20 s"
    )


def test_what_is_not_counted_is_no_step() -> None:
    pace = Pace(Patience(factor=10, least=60))
    for step in range(7):
        pace.overdue(float(step), at(step), True)
    assert pace.overdue(600.0, at(6), False) is None, "it saves"
    assert pace.overdue(601.0, at(6), True) is None
    assert pace.overdue(660.0, at(6), True) is None, "counted from the end of saving"
    assert pace.overdue(662.0, at(6), True) is not None
    assert pace.overdue(900.0, at(6, unit="videos"), True) is None


def test_few_steps_have_no_median() -> None:
    pace = Pace(Patience(factor=10, least=60))
    for step in range(3):
        pace.overdue(float(step), at(step), True)
    assert pace.overdue(9999.0, at(2), True) is None


def test_the_number_of_a_node_must_be_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "demo-0.demo")
    monkeypatch.setenv("MASTER_PORT", "29500")
    for index in ("", "2", "x"):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
        with pytest.raises(InputError, match="must be the number of this node, from 0 to 1"):
            launch.places(Parallelism(nodes=2))
    assert [each.environment() for each in launch.places(Parallelism())] == [{}]
