"""PID 1 of a workload pod: runs the step as children, turns their ends into one Result and exit
code.

A process of its own, because a step can die in ways that it cannot report: killed for memory,
crashed in a driver, gone without a word. Mostly it has one child; ranks that train together are one
each.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from wan_runtime.contract.job import TERMINATION_FILE, ExitClass, Progress, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import StepError
from wan_runtime.faults import described
from wan_runtime.process import launch
from wan_runtime.process.children import LAST_WORDS_SECONDS, Children
from wan_runtime.process.ends import End, judge_all, judge_one
from wan_runtime.process.pages import HEARTBEATS, ProgressFile, Server, chosen_port
from wan_runtime.process.progress import FILE as PROGRESS_FILE
from wan_runtime.process.progress import UNCOUNTED_FILE
from wan_runtime.process.step import RESULT_FILE, load_job
from wan_runtime.process.stuck import Others, Patience, Watch, heartbeats

log = logging.getLogger(__name__)


def supervise(
    step: Step,
    job: Path,
    work: Path,
    *,
    module: str = "wan_runtime.process.step",
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> int:
    """Run a step to its end, write the termination message, return the exit code. Main thread.

    Args:
        module: what the children run, with the arguments of `wan_runtime.process.step`.
        patience: how long the step may be without progress.
    """
    with ExitStack() as stack:
        folder = _run_folder(stack)
        step_id = str(step)
        try:
            file = load_job(job, step)
            step_id = file.step_id
            places = launch.places(file.parallelism)
        except StepError:
            places = [launch.ALONE]  # the child finds the same fault and reports it
        # The children first: they are forked, and a fork wants no other threads.
        command = [sys.executable, "-m", module, step, str(job), str(work), str(folder)]
        environments = [each.environment() for each in places]
        children = stack.enter_context(Children(command, environments))
        source = ProgressFile(folder, step_id)
        folders = [launch.run_folder(folder, each.local) for each in places]
        _serve(stack, source, folders)
        result = _watched(step_id, children, places, folders, source, patience)
        _write_termination(result)
    level = logging.INFO if result.exit_class is ExitClass.DONE else logging.ERROR
    log.log(level, "%s: %s: %s", step_id, result.reason, result.message)
    return int(result.exit_class)


def _watched(
    step_id: str,
    children: Children,
    places: Sequence[launch.Place],
    folders: Sequence[Path],
    source: ProgressFile,
    patience: Patience,
) -> Result:
    """The Result of processes that may be stuck: one alone, or several ranks, of which some may be
    in other pods."""

    def read() -> tuple[Progress, bool]:
        return source.read(), not (folders[0] / UNCOUNTED_FILE).exists()

    leads, others = places[0].leads, Others(_others(places))
    watch = Watch(children, folders, read, patience, leads=leads, others=others)
    ended = children.wait()
    watch.close()
    if places == [launch.ALONE]:
        result = _read_result(folders[0])
        return judge_one(step_id, ended[0], result, watch.found, children.stop_requested)
    ends = [End(places[each.place].rank, each, _read_result(folders[each.place])) for each in ended]
    result = judge_all(step_id, ends, watch.found, children.stop_requested)
    if result.reason is Reason.RANK_LOST and len(places) < places[0].world:
        # The pod whose rank is the cause ends first, so that it is the one that is blamed.
        time.sleep(LAST_WORDS_SECONDS)
    return result


def _others(places: Sequence[launch.Place]) -> list[str]:
    """Where the other pods serve their heartbeats, in the first pod."""
    if not places[0].leads:
        return []
    try:
        port = chosen_port()
    except StepError:  # they serve none either
        return []
    return [f"http://{each}:{port}{HEARTBEATS}" for each in launch.other_pods(places)]


def _run_folder(stack: ExitStack) -> Path:
    named = os.environ.get("WAN_RUN_DIR")
    folder = Path(named or stack.enter_context(tempfile.TemporaryDirectory(prefix="wan-run-")))
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (RESULT_FILE, PROGRESS_FILE, UNCOUNTED_FILE):
        # Of an earlier container of the same pod.
        for path in (folder / stale, *folder.glob(f"{launch.run_folder(Path(), '*')}/{stale}")):
            path.unlink(missing_ok=True)
    return folder


def _serve(stack: ExitStack, source: ProgressFile, folders: Sequence[Path]) -> None:
    # Progress is a convenience: the step is worth more.
    try:
        server = Server(source, chosen_port(), partial(heartbeats, folders))
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
