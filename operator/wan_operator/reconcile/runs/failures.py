"""How an attempt ended, and what is done about it.

The exit classes are those of the runtime (`wan_runtime.contract.job.ExitClass`). An end without a
Result counts as infrastructure, because every step is idempotent: run again over committed output
it returns the same Result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import ValidationError

from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.observed import (
    Raw,
    condition,
    container_state,
    finished,
    is_deleting,
    is_suspended,
    parse_time,
)
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.runs.plan import PlannedStep, RetryLimits
from wan_runtime.contract.job import ExitClass, Result
from wan_runtime.contract.reasons import INPUT, NEEDS_SOMEBODY, Reason

RETRY_LIMIT_SECONDS = 300.0
"""Back-off stops doubling here: a store that returns after an hour's outage is found within five
minutes."""
FIRST_CHECK = 2.0
"""Ratio of the first pause while input is missing to that of a retry: each check is a pod."""
CHECK_GROWTH = 1.1
"""Ratio of one pause to the next while input is missing: what is mended is found within about a
tenth of the time for which it was missing."""
CHECK_SHARE = 4
"""Least ratio of such a pause to the check before it, from the fourth check on: clips that take an
hour to read are not read without end."""
MENDABLE = INPUT | (NEEDS_SOMEBODY & frozenset(Reason))
"""Reasons of an end that somebody can mend, and no waiting does."""
KILLED = (137, 143)
"""Exit codes of SIGKILL and SIGTERM."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of an attempt."""

    exit_class: ExitClass
    reason: str
    message: str
    result: Result | None = None
    exit_code: int | None = None
    pod: str = ""
    node: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    """Times of the container, if the cluster still knows them."""

    @property
    def seconds(self) -> float:
        """Seconds for which the container ran."""
        return (self.ended - self.began).total_seconds() if self.began and self.ended else 0.0


class Verdict(StrEnum):
    RETRY = "Retry"
    RESTART = "Restart"
    """Starts again without using a retry."""
    WAIT = "Wait"
    """Waits until somebody has mended what the step was given. It uses no retry."""
    FAIL = "Fail"


def outcome_of(attempted: Attempted | None, step: PlannedStep) -> Outcome | None:
    """The end of an attempt; None while it goes on. `attempted` is None when the API server has no
    such Job.

    The first rank that fails ends it, unless all that it says is that it lost another: the others
    fail for its sake. It is done when all ranks are, and rank 0 has the Result.
    """
    if attempted is None:
        return _lost("JobLost", "the Job was deleted while its attempt ran")
    job = attempted.job
    ends = [_of_rank(job, pods, step) for pods in attempted.ranks]
    failures = [end for end in ends if end and end.exit_class is not ExitClass.DONE]
    if failures:
        return min(
            failures,
            key=lambda end: (end.reason == Reason.RANK_LOST, end.ended is None, end.ended),
        )
    if None not in ends:
        return ends[0]
    if not finished(job) or any(_of_pod(pod, step) is None for pod in attempted.pods):
        # A finished Job with a pod that has not ended: the pod's end is what counts, and it is on
        # its way.
        return None
    failed = condition(job, "Failed") or {}
    detail = f": {failed['message']}" if failed.get("message") else ""
    return _lost("PodLost", f"the pod is gone and left no result{detail}")


def taken(attempted: Attempted, step: PlannedStep) -> Outcome | None:
    """The last state of a preempted pod. It does not end the attempt: Kueue will restart the
    Job."""
    ends = (_of_pod(pod, step) for pod in attempted.pods)
    return next((end for end in ends if end is not None), None)


def _of_rank(job: Raw, pods: Iterable[Raw], step: PlannedStep) -> Outcome | None:
    ends = (_of_pod(pod, step) for pod in pods)
    counted = (end for end in ends if end is not None and not _is_queued_again(job, end))
    return next(counted, None)


def _is_queued_again(job: Raw, ended: Outcome) -> bool:
    """Kueue has taken the Job's pod away and will start the same Job again: no end of the
    attempt."""
    saved = ended.exit_class in (ExitClass.STOPPED, ExitClass.INFRASTRUCTURE)
    return saved and is_suspended(job) and not finished(job)


def _of_pod(pod: Raw, step: PlannedStep) -> Outcome | None:
    kind, state = container_state(pod)
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    status = pod.get("status", {})
    if kind != "terminated":
        if status.get("phase") not in ("Failed", "Succeeded"):
            return None
        unknown = ("PodLost", status.get("message", "the pod has ended"))
        reason, message = _disruption(pod) or unknown
        return _lost(reason, message, pod=name, node=node)

    exit_code: int = state.get("exitCode", -1)
    began, finished_at = _times(state)
    result = parse_result(state.get("message", ""), step.reports_as)
    if result is not None and int(result.exit_class) == exit_code and is_whole(result, step):
        return Outcome(
            exit_class=result.exit_class,
            reason=result.reason.value,
            message=result.message,
            result=result,
            exit_code=exit_code,
            pod=name,
            node=node,
            began=began,
            ended=finished_at,
        )
    exit_class, reason, message = _without_result(pod, state, exit_code)
    return Outcome(
        exit_class=exit_class,
        reason=reason,
        message=message,
        exit_code=exit_code,
        pod=name,
        node=node,
        began=began,
        ended=finished_at,
    )


def parse_result(text: str, step_id: str) -> Result | None:
    """None for what is not the Result of this step, such as the last log line of a crash."""
    try:
        result = Result.model_validate_json(text)
    except ValidationError:
        return None
    return result if result.step_id == step_id else None


def is_whole(result: Result, step: PlannedStep) -> bool:
    """Whether a step that must commit its output names it."""
    committed = result.manifest is not None or not step.must_commit
    return committed or result.exit_class is not ExitClass.DONE


def _without_result(pod: Raw, state: Raw, exit_code: int) -> tuple[ExitClass, str, str]:
    # Without a result it is the end of the log, and the end of that says most.
    said = state.get("message", "").strip()[-500:]
    detail = f": {said}" if said else ""
    if state.get("reason") == "OOMKilled":
        container = pod["spec"]["containers"][0]  # an admission webhook may have added others
        memory = container.get("resources", {}).get("limits", {}).get("memory")
        limit = f", {memory}" if memory else ""
        return (
            ExitClass.OUT_OF_MEMORY,
            Reason.HOST_OUT_OF_MEMORY.value,
            f"the kernel killed the container at its memory limit{limit}: raise "
            f"spec.resources.memory (exit code {exit_code})",
        )
    disruption = _disruption(pod)
    if disruption is not None:
        return (ExitClass.INFRASTRUCTURE, *disruption)
    if is_deleting(pod) and exit_code in KILLED:
        text = f"the pod was deleted and left no result (exit code {exit_code}){detail}"
        return ExitClass.INFRASTRUCTURE, "PodLost", text
    if exit_code == ExitClass.DONE:
        return (
            ExitClass.INFRASTRUCTURE,
            "ResultMissing",
            f"the container exited with 0 and left no readable result{detail}",
        )
    known = {member.value for member in ExitClass}
    exit_class = ExitClass(exit_code) if exit_code in known else ExitClass.INFRASTRUCTURE
    return exit_class, "ContainerFailed", f"exit code {exit_code} without a result{detail}"


def _disruption(pod: Raw) -> tuple[str, str] | None:
    """Who took the pod away, if somebody did."""
    status = pod.get("status", {})
    if status.get("reason") in ("Evicted", "NodeShutdown", "Terminated", "Preempting"):
        return "PodEvicted", status.get("message", status["reason"])
    target = condition(pod, "DisruptionTarget")
    if target is not None and target["status"] == "True":
        why = target.get("reason", "")
        lost = why == "DeletionByPodGC"  # its node is no longer there
        return "PodLost" if lost else "PodEvicted", target.get("message") or why
    if status.get("reason") == "NodeLost":
        return "PodLost", status.get("message", "the node is gone")
    return None


def _lost(reason: str, message: str, pod: str = "", node: str = "") -> Outcome:
    return Outcome(
        exit_class=ExitClass.INFRASTRUCTURE, reason=reason, message=message, pod=pod, node=node
    )


def _times(state: Raw) -> tuple[datetime, datetime] | tuple[None, None]:
    start, end = state.get("startedAt"), state.get("finishedAt")
    return (parse_time(start), parse_time(end)) if start and end else (None, None)


def verdict(outcome: Outcome, step: StepStatus, retries: RetryLimits, before_gpus: bool) -> Verdict:
    """`before_gpus`: no GPU was held for the run yet."""
    if before_gpus and outcome.result is not None and outcome.reason in MENDABLE:
        return Verdict.WAIT
    match outcome.exit_class:
        case ExitClass.DONE:
            raise AssertionError("a step that is done needs no verdict")
        case ExitClass.STOPPED:
            return Verdict.RESTART
        case ExitClass.OUT_OF_MEMORY | ExitClass.INFRASTRUCTURE:
            spent, allowed = budget(outcome, step, retries)
            return Verdict.RETRY if allowed is None or spent < allowed else Verdict.FAIL
        case _:
            return Verdict.FAIL


def is_fatal(outcome: Outcome, step: StepStatus, retries: RetryLimits, before_gpus: bool) -> bool:
    """Whether this end of one attempt ends the run without its result."""
    done = outcome.exit_class is ExitClass.DONE
    return not done and verdict(outcome, step, retries, before_gpus) is Verdict.FAIL


def budget(outcome: Outcome, step: StepStatus, retries: RetryLimits) -> tuple[int, int | None]:
    """(retries spent, retries allowed; None for any number) of the outcome's class."""
    if outcome.exit_class is ExitClass.OUT_OF_MEMORY:
        return step.out_of_memory_retries, retries.out_of_memory
    if outcome.exit_class is ExitClass.INFRASTRUCTURE:
        return step.infrastructure_retries, retries.infrastructure
    return 0, 0


def retry_delay(uid: str, attempt: int, retry: int, base: float) -> timedelta:
    """Pause before retry number `retry` (from 1): doubling from `base`, then spread by a fifth
    either way. The spread comes from the uid and the attempt, so that a second call gives the same
    time."""
    pause = min(RETRY_LIMIT_SECONDS, base * 2 ** min(retry - 1, 16))
    return timedelta(seconds=pause * _spread(uid, attempt))


def check_delay(uid: str, attempt: int, base: float, took: float) -> timedelta:
    """Pause after attempt number `attempt` (from 1) until its input is checked again: growing from
    twice `base` seconds, and long beside the `took` seconds of that attempt. Spread likewise."""
    pause = min(RETRY_LIMIT_SECONDS, base * FIRST_CHECK * CHECK_GROWTH ** min(attempt - 1, 100))
    least = took * min(attempt, CHECK_SHARE)
    return timedelta(seconds=max(pause, least) * _spread(uid, attempt))


def _spread(uid: str, attempt: int) -> float:
    digest = hashlib.sha256(f"{uid}/{attempt}".encode()).digest()
    return 0.8 + 0.4 * int.from_bytes(digest[:4], "big") / 2**32
