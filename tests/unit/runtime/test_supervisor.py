"""The supervisor with real children that end in every way a step can."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from object_store import ObjectStore
from supervised import PATIENCE, Pod, alive
from wan_runtime import cli
from wan_runtime.contract.job import ExitClass, ManifestRef, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import classify
from wan_runtime.process import ends, step


@pytest.fixture
def start(
    tmp_path: Path, server: ObjectStore, credentials: None, request: pytest.FixtureRequest
) -> Callable[[str], Pod]:
    def start(does: str) -> Pod:
        pod = Pod(tmp_path, server, does)
        request.addfinalizer(pod.close)
        return pod

    return start


def test_a_step_that_finishes(start: Callable[[str], Pod]) -> None:
    ended = start("finish").end()
    assert ended.code == 0
    assert ended.result.reason is Reason.COMPLETED
    assert ended.result.message == "3 clips train"
    assert ended.result.summary == {"clips": 3}
    assert ended.result.manifest is not None
    assert ended.result.manifest.uri.endswith("/team-a/dragons/0f9e8d7c/prepare/manifest.json")
    entries = [json.loads(line) for line in ended.output.splitlines()]
    assert entries[-1]["message"] == "prepare: Completed: 3 clips train"
    assert {"time", "level", "logger", "step", "message"} == set(entries[-1])


def test_a_second_run_verifies_and_says_the_same(start: Callable[[str], Pod]) -> None:
    first = start("finish").end().result
    again = start("bug").end()  # would fail if it were run
    assert again.code == 0
    assert again.result.message == "already committed"
    assert again.result.manifest == first.manifest
    assert again.result.summary == first.summary


def test_a_damaged_output_is_made_again(start: Callable[[str], Pod], server: ObjectStore) -> None:
    first = start("finish").end().result
    assert first.manifest is not None
    key = first.manifest.uri.removeprefix("s3://wan/").replace("manifest.json", "answer")
    server.client().remove_object("wan", key)
    again = start("finish").end().result
    assert again.message == "3 clips train"
    assert again.manifest == first.manifest
    assert server.client().stat_object("wan", key).size == 2


@pytest.mark.parametrize(
    ("does", "exit_class", "reason", "text"),
    [
        ("die", ExitClass.OUT_OF_MEMORY, Reason.HOST_OUT_OF_MEMORY, "killed by signal 9"),
        ("crash", ExitClass.INFRASTRUCTURE, Reason.UNEXPECTED, "signal 11.*driver says: bad"),
        ("vanish", ExitClass.INFRASTRUCTURE, Reason.UNEXPECTED, r"code 0 .*first \| last words"),
        ("wrong_input", ExitClass.INPUT, Reason.CLIP_INVALID, "^clip a.mp4: too short$"),
        ("diverge", ExitClass.NUMERICAL, Reason.NON_FINITE_LOSS, "NaN at step 3"),
        ("eat_memory", ExitClass.OUT_OF_MEMORY, Reason.HOST_OUT_OF_MEMORY, "memory ran out"),
        ("fill_disk", ExitClass.INFRASTRUCTURE, Reason.DISK_FULL, "no space left for /work/lat"),
        ("bug", ExitClass.INFRASTRUCTURE, Reason.UNEXPECTED, "KeyError: 'nobody foresaw this'"),
    ],
)
def test_every_end_has_its_class(
    start: Callable[[str], Pod], does: str, exit_class: ExitClass, reason: Reason, text: str
) -> None:
    ended = start(does).end()
    assert ended.result.exit_class is exit_class
    assert ended.result.reason is reason
    assert re.search(text, ended.result.message)
    assert ended.result.step_id == "prepare"
    assert ended.result.manifest is None
    if does == "bug":
        assert "Traceback" in ended.output
        assert "step_double.py" in ended.output


def test_the_child_killed_from_outside_counts_as_out_of_memory(
    start: Callable[[str], Pod],
) -> None:
    pod = start("wait")
    pod.until("waiting")
    children = Path(f"/proc/{pod.process.pid}/task/{pod.process.pid}/children").read_text()
    os.kill(int(children), signal.SIGKILL)
    assert pod.end().result.reason is Reason.HOST_OUT_OF_MEMORY


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_save(start: Callable[[str], Pod], number: signal.Signals) -> None:
    pod = start("save")
    pod.until("training")
    assert not (pod.work / "checkpoint").exists()
    pod.process.send_signal(number)
    ended = pod.end()
    assert ended.code == 40
    assert ended.result.reason is Reason.TERMINATED
    assert (pod.work / "checkpoint").read_text() == "saved"
    assert ended.result.checkpoint is not None
    assert ended.result.checkpoint.step == 7


def test_a_step_with_nothing_to_save_stops_too(start: Callable[[str], Pod]) -> None:
    pod = start("wait")
    pod.until("waiting")
    pod.process.terminate()
    ended = pod.end()
    assert ended.code == 40
    assert "nothing was left to save" in ended.result.message


@pytest.mark.parametrize(
    ("does", "text"), [("large", "while starting"), ("confuse", "ended in SystemError: init")]
)
def test_a_stop_within_a_library_is_a_stop(
    start: Callable[[str], Pod], does: str, text: str
) -> None:
    pod = start(does)
    pod.until("waiting")
    pod.process.terminate()
    ended = pod.end()
    assert (ended.code, ended.result.reason) == (40, Reason.TERMINATED), ended.output
    assert text in ended.result.message


def test_the_child_dies_with_its_supervisor(start: Callable[[str], Pod]) -> None:
    pod = start("wait")
    pod.until("waiting")
    child = Path(f"/proc/{pod.process.pid}/task/{pod.process.pid}/children").read_text().strip()
    pod.process.kill()
    deadline = time.monotonic() + PATIENCE
    while alive(int(child)):
        assert time.monotonic() < deadline, "the step outlives its supervisor"
        time.sleep(0.02)


def test_orphans_are_reaped_and_leftovers_killed(start: Callable[[str], Pod]) -> None:
    pod = start("leave_orphans")  # fails by itself if its orphan stays a zombie
    ended = pod.end()
    assert ended.code == 0, ended.result.message
    assert not alive(int((pod.work / "stays").read_text()))


def test_progress_metrics_and_health_are_served(start: Callable[[str], Pod]) -> None:
    pod = start("wait")
    now = pod.until("waiting")
    assert (now.step_id, now.current, now.total, now.loss) == ("prepare", 2, 8, 0.5)
    assert '"stepId":"prepare"' in pod.get("/progress")
    metrics = pod.get("/metrics")
    assert 'wan_step_current{step="prepare",unit="steps"} 2.0' in metrics
    assert 'wan_step_loss{step="prepare",unit="steps"} 0.5' in metrics
    assert 'wan_step_updates_lost{step="prepare",unit="steps"} 0.25' in metrics
    assert 'wan_step_info{activity="waiting",step="prepare"} 1.0' in metrics
    assert "eta" not in metrics  # unknown is absent, not zero
    assert pod.get("/healthz") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        pod.get("/other")
    caught.value.close()
    pod.process.terminate()
    pod.end()


def test_a_stale_result_is_not_believed(start: Callable[[str], Pod], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    stale = Result(step_id="prepare", exit_class=ExitClass.DONE, reason=Reason.COMPLETED)
    (tmp_path / "run" / step.RESULT_FILE).write_text(stale.dump())
    assert start("die").end().code == 20


def test_a_taken_port_or_an_unwritable_termination_file_fail_nothing(
    tmp_path: Path, start: Callable[[str], Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "termination-log").mkdir()
    pod = start("finish")
    output, _ = pod.process.communicate(timeout=PATIENCE)
    assert pod.process.returncode == 0
    assert "cannot be written (Is a directory); the result is {" in output


def judged(status: int, stopping: bool = False, result: Result | None = None) -> Result:
    return ends.judge("train", status, result, ["a", "b"], stopping)


def test_the_table_of_ends() -> None:
    done = Result(step_id="train", exit_class=ExitClass.DONE, reason=Reason.COMPLETED)
    assert judged(-11, result=done) is done  # committed, then crashed on its way out
    assert judged(-9).reason is Reason.HOST_OUT_OF_MEMORY
    assert judged(-9, stopping=True).reason is Reason.HOST_OUT_OF_MEMORY
    assert judged(-15, stopping=True).exit_class is ExitClass.STOPPED
    assert judged(-15).exit_class is ExitClass.INFRASTRUCTURE
    assert judged(1, stopping=True).exit_class is ExitClass.INFRASTRUCTURE
    assert (
        judged(1).message == "the step exited with code 1 without a result; its last lines: a | b"
    )


def test_gpu_memory_is_told_from_host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class TorchOutOfMemory(RuntimeError):
        pass

    double = SimpleNamespace(cuda=SimpleNamespace(OutOfMemoryError=TorchOutOfMemory))
    monkeypatch.setitem(sys.modules, "torch", double)
    found = classify(TorchOutOfMemory("CUDA out of memory. Tried to allocate 2 GiB\nmore"))
    assert found.reason is Reason.GPU_OUT_OF_MEMORY
    assert found.exit_class is ExitClass.OUT_OF_MEMORY
    assert found.message == "CUDA out of memory. Tried to allocate 2 GiB"
    raised = RuntimeError("CUDA error: out of memory")
    assert classify(raised).reason is Reason.GPU_OUT_OF_MEMORY
    host = RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")
    assert classify(host).reason is Reason.HOST_OUT_OF_MEMORY
    assert classify(RuntimeError("shape mismatch")).reason is Reason.UNEXPECTED
    assert classify(OSError(errno.EIO, "bad disk")).reason is Reason.UNEXPECTED


def test_a_lost_rank_is_known_by_what_collectives_say(monkeypatch: pytest.MonkeyPatch) -> None:
    class DistError(RuntimeError):
        pass

    double = SimpleNamespace(
        cuda=SimpleNamespace(OutOfMemoryError=MemoryError),
        distributed=SimpleNamespace(DistError=DistError),
    )
    monkeypatch.setitem(sys.modules, "torch", double)
    said = "[/w/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.7]:39847"
    found = classify(RuntimeError(f"{said}. This is typically caused by a crash. GLHF!"))
    assert found.reason is Reason.RANK_LOST
    assert found.message == "another rank is lost: Connection closed by peer [10.0.0.7]:39847"
    assert classify(DistError("NCCL error: remote process exited")).reason is Reason.RANK_LOST
    assert classify(RuntimeError("shape mismatch")).reason is Reason.UNEXPECTED


def test_a_result_fits_the_termination_message() -> None:
    ref = ManifestRef(uri="s3://b/" + "k" * 200, sha256="0" * 64)
    long = Result(
        step_id="train", exit_class=ExitClass.INPUT, reason=Reason.CLIP_INVALID,
        message="ü\n" * 5000, manifest=ref, summary={"clips": 1},
    )  # fmt: skip
    assert len(long.dump().encode()) <= 3072
    assert Result.model_validate_json(long.dump()).manifest == ref


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in [
        (["--help"], "exit codes:"),
        (["train", "--help"], "resuming"),
        (["tiny-model", "--help"], "Wan2.1-I2V-Tiny"),
        (["--version"], "wan-runtime "),
    ]:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


def test_torch_is_not_imported_by_what_stands_in_front() -> None:
    modules = (
        "contract.job, presets, errors, cli, process.supervisor, process.step, process.outcome, "
        "artifacts.manifest, training.prepare"
    )
    script = "import sys\n" + "\n".join(
        f"import wan_runtime.{name.strip()}" for name in modules.split(",")
    )
    script += "\nassert not {'torch', 'diffsynth', 'peft'} & set(sys.modules)"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environ, timeout=PATIENCE)
