"""One Result from the ends of the processes that did a step."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from wan_runtime.contract.job import ExitClass, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.process.children import GOOD_ENDS, Ended
from wan_runtime.process.stuck import Found


@dataclass(frozen=True, slots=True)
class End:
    """The end of one rank."""

    rank: int
    process: Ended
    result: Result | None
    """What it left, if anything."""


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


def judge_one(
    step_id: str, ended: Ended, result: Result | None, stuck: Found | None, stopping: bool
) -> Result:
    """The Result of a child that did a step alone, from what it left.

    Args:
        stuck: what was found before it was killed for it.
    """
    if stuck is not None and result is None and ended.killed:
        return _stuck(step_id, "the step", stuck, Reason.STEP_STUCK)
    return judge(step_id, ended.status, result, ended.last_lines, stopping)


def judge_all(step_id: str, ends: Sequence[End], stuck: Found | None, stopping: bool) -> Result:
    """The Result of ranks that did a step together.

    The lowest has the Result that counts, if it is done or has saved. Else the first fault is the
    cause, unless it is only that another was lost.

    Args:
        ends: in their order.
        stuck: what was found before they were killed for it.
    """
    judged = [(end, _judged(step_id, end, stopping)) for end in ends]
    first = min(judged, key=lambda each: each[0].rank)[1]
    if first.exit_class in GOOD_ENDS:
        return first
    saved = next((each.checkpoint for _, each in judged if each.checkpoint is not None), None)
    faults = [
        (end, each)
        for end, each in judged
        if each.exit_class not in GOOD_ENDS and not (end.process.killed and end.result is None)
    ]
    causes = [each for each in faults if each[1].reason is not Reason.RANK_LOST] or faults
    if causes:
        end, cause = causes[0]
        text = f"rank {end.rank}: {cause.message}"
        return cause.model_copy(update={"message": text, "checkpoint": saved})
    if stuck is not None:
        return _all_stuck(step_id, ends, stuck).model_copy(update={"checkpoint": saved})
    return next(each for _, each in judged if each.exit_class is ExitClass.STOPPED)


def _judged(step_id: str, end: End, stopping: bool) -> Result:
    if end.result is None and end.rank and end.process.status == ExitClass.DONE:
        # The first has all that there is to say.
        text = f"rank {end.rank} is done"
        done = {"exit_class": ExitClass.DONE, "reason": Reason.COMPLETED, "message": text}
        return Result(step_id=step_id, **done)
    return judge(step_id, end.process.status, end.result, end.process.last_lines, stopping)


def _all_stuck(step_id: str, ends: Sequence[End], stuck: Found) -> Result:
    numbers = sorted(end.rank for end in ends if end.process.place not in stuck.waiting)
    # Where each waits for others, those others are in another pod.
    reason = Reason.STEP_STUCK if numbers else Reason.RANK_LOST
    who = f"rank {', '.join(map(str, numbers))}" if numbers else "a rank of another pod"
    return _stuck(step_id, who, stuck, reason)


def _stuck(step_id: str, who: str, stuck: Found, reason: Reason) -> Result:
    text = f"{who} is stuck: {stuck.message}; the log has the stacks"
    return Result(step_id=step_id, exit_class=ExitClass.INFRASTRUCTURE, reason=reason, message=text)
