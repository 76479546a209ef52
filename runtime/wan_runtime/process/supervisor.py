"""PID 1 of a workload pod: runs the step as a child, turns its end into one Result and exit code.

A process of its own, because a step can die in ways that it cannot report: killed for memory,
crashed in a driver, gone without a word.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Final

from pydantic import ValidationError

from wan_runtime.contract.job import TERMINATION_FILE, ExitClass, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import StepError
from wan_runtime.faults import described
from wan_runtime.process import early
from wan_runtime.process.pages import ProgressFile, Server, chosen_port
from wan_runtime.process.progress import FILE as PROGRESS_FILE
from wan_runtime.process.step import RESULT_FILE, load_job

log = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER: Final = 36
LAST_LINES = 5
"""Number of lines of standard error that the message of a child without a result quotes."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def supervise(
    step: Step, job: Path, work: Path, *, module: str = "wan_runtime.process.step"
) -> int:
    """Run a step to its end, write the termination message, return the exit code. Main thread.

    `module`: what the child runs, with the arguments of `wan_runtime.process.step`.
    """
    with ExitStack() as stack:
        folder = _run_folder(stack)
        try:
            step_id = load_job(job, step).step_id
        except StepError:
            step_id = str(step)  # the child finds the same fault and reports it
        # The child first: it is forked, and a fork wants no other threads.
        command = [sys.executable, "-m", module, step, str(job), str(work), str(folder)]
        child = stack.enter_context(Child(command))
        _serve(stack, ProgressFile(folder, step_id))
        status = child.wait()
        found = _read_result(folder)
        result = judge(step_id, status, found, child.last_lines, child.stop_requested)
        _write_termination(result)
    level = logging.INFO if result.exit_class is ExitClass.DONE else logging.ERROR
    log.log(level, "%s: %s: %s", step_id, result.reason, result.message)
    return int(result.exit_class)


def judge(
    step_id: str, status: int, result: Result | None, last_lines: Sequence[str], stopping: bool
) -> Result:
    """The Result of a child that ended with `status`: its exit code, or minus the fatal signal.

    `result`: what it left, if anything; it counts even if the process crashed on its way out.
    """
    if result is not None:
        return result

    def ended(exit_class: ExitClass, reason: Reason, message: str) -> Result:
        said = " | ".join(last_lines)
        message = f"{message}; its last lines: {said}" if said else message
        return Result(step_id=step_id, exit_class=exit_class, reason=reason, message=message)

    if status == -signal.SIGKILL:
        return ended(
            ExitClass.OUT_OF_MEMORY,
            Reason.HOST_OUT_OF_MEMORY,
            "the step was killed by signal 9, most likely for the container's memory limit",
        )
    if stopping and status == -signal.SIGTERM:
        # Too early for its own handler: there was nothing to save, so nothing is lost.
        return ended(ExitClass.STOPPED, Reason.TERMINATED, "stopped on request while starting")
    how = f"was killed by signal {-status}" if status < 0 else f"exited with code {status}"
    return ended(ExitClass.INFRASTRUCTURE, Reason.UNEXPECTED, f"the step {how} without a result")


class Child:
    """The step's process, in a session of its own, and all that it leaves behind."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it. Inside `with`, SIGTERM and SIGINT sent to us mean SIGTERM for the child."""
        self.stop_requested = False
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        # Orphans of the child come to us as they would to PID 1, wherever we run.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._previous = {number: signal.signal(number, self._forward) for number in STOP_SIGNALS}
        self.stop_requested |= early.received()
        # A person at a terminal sees the child's progress bar; in a pod its last words are kept.
        self._process = subprocess.Popen(
            command,
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,
            start_new_session=True,
        )
        if self.stop_requested:  # it came before there was a child to signal
            self._process.terminate()
        if self._process.stderr is not None:
            self._reader = threading.Thread(
                target=self._tee, args=(self._process.stderr,), daemon=True
            )
            self._reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def pid(self) -> int:
        """Process ID of the step's process, which leads its session."""
        assert self._process is not None
        return self._process.pid

    @property
    def last_lines(self) -> list[str]:
        """The end of its standard error; empty at a terminal."""
        return list(self._lines)

    def wait(self) -> int:
        """Reap until the step itself ends: its exit code, or minus the signal that killed it.

        Whatever it started and left running is killed.
        """
        assert self._process is not None
        status: int | None = None
        while status is None:
            pid, raw = os.waitpid(-1, 0)  # any child: the orphans of a PID 1 are its zombies
            if pid == self.pid:
                status = os.waitstatus_to_exitcode(raw)
        self._process.returncode = status  # reaped behind its back
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _reap_rest()
        if self._reader is not None:
            self._reader.join(timeout=5)
        return status

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        self.stop_requested = True
        log.info("%s: asking the step to stop", signal.Signals(signum).name)
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def _tee(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                sys.stderr.buffer.write(raw)
                sys.stderr.buffer.flush()
                line = raw.decode(errors="replace").strip()
                if line:
                    self._lines.append(line[-300:])


def _reap_rest() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run_folder(stack: ExitStack) -> Path:
    named = os.environ.get("WAN_RUN_DIR")
    folder = Path(named or stack.enter_context(tempfile.TemporaryDirectory(prefix="wan-run-")))
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (RESULT_FILE, PROGRESS_FILE):  # of an earlier container of the same pod
        (folder / stale).unlink(missing_ok=True)
    return folder


def _serve(stack: ExitStack, source: ProgressFile) -> None:
    # Progress is a convenience: the step is worth more.
    try:
        server = Server(source, chosen_port())
    except StepError as error:
        log.warning("no progress is served: %s", error.message)
        return
    stack.callback(server.close)
    log.info("progress at port %d", server.port)


def _read_result(folder: Path) -> Result | None:
    try:
        return Result.model_validate_json((folder / RESULT_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        log.error("the step's result cannot be read: %s", described(error))
        return None


def _write_termination(result: Result) -> None:
    path = Path(os.environ.get("WAN_TERMINATION_FILE", TERMINATION_FILE))
    text = result.dump()
    try:
        path.write_text(text)
    except OSError as error:
        log.warning("%s cannot be written (%s); the result is %s", path, error.strerror, text)
