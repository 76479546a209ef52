"""What a run says of itself: conditions, progress, messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from wan_operator import conditions
from wan_operator.api.v1alpha1.common import Condition
from wan_operator.api.v1alpha1.finetune import FormatStatus, ProgressStatus, StepStatus
from wan_operator.conditions import Wanted
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.run import Run
from wan_runtime.job import Certificate, Progress, Step

STARTING = "starting"
PENDING = "waiting for the pod"
UNREAD = ("", STARTING, PENDING)
"""Activities that stand for a progress that nobody has read yet, or that an end has left."""
DATASET_REASONS = frozenset({"DatasetNotFound", "DatasetEmpty", "DatasetInvalid", "ClipInvalid"})


def telling(run: Run, leading: Wanted, *others: Wanted) -> Run:
    """The run with `leading` as its news. Running is false with the same reason, unless it is the
    news."""
    wanted = [leading, *others]
    if leading.type != conditions.RUNNING:
        wanted.append(Wanted(conditions.RUNNING, False, leading.reason, leading.message))
    wanted += _dataset(run.status.steps, leading)
    previous = run.status.conditions
    return run.with_status(conditions=conditions.merge(previous, wanted, run.generation, run.now))


def _dataset(steps: Sequence[StepStatus], leading: Wanted) -> list[Wanted]:
    prepare = next((step for step in steps if step.name == Step.PREPARE), None)
    if prepare is not None and prepare.state == "Complete":
        facts = ", ".join(f"{value} {name}" for name, value in sorted(prepare.summary.items()))
        return [Wanted(conditions.DATASET_READY, True, "DatasetPrepared", facts)]
    if leading.reason in DATASET_REASONS:
        return [Wanted(conditions.DATASET_READY, False, leading.reason, leading.message)]
    return []


def stalled(previous: Iterable[Condition], reason: str, message: str) -> list[Wanted]:
    """For a resource that cannot be acted on; what is known of the dataset stays."""
    kept = [
        Wanted(old.type, old.status == "True", old.reason, old.message)
        for old in previous
        if old.type == conditions.DATASET_READY
    ]
    return [
        Wanted(conditions.STALLED, True, reason, message),
        Wanted(conditions.RUNNING, False, reason, message),
        *kept,
    ]


def progressed(run: Run, step: StepStatus, activity: str) -> Run:
    """The run with fresh progress, if there is any and the last is old enough."""
    before, fresh = run.status.progress, run.observed.progress
    if before is None or before.step != step.name:
        start = ProgressStatus(step=step.name, activity=activity, display=step.name, time=run.now)
        run, before = run.with_status(progress=start), start
    elif (
        before.activity not in UNREAD
        and (run.now - before.time).total_seconds() < run.settings.progress_seconds
    ):
        return run
    if fresh is None or fresh.step_id != step.name:
        return run
    current = shown(fresh).model_copy(update={"time": before.time})
    if current == before:
        return run
    return run.with_status(progress=current.model_copy(update={"time": run.now}))


def halted(run: Run, **changes: str) -> Run:
    """The run with the progress that it had made: what does not run has no time of arrival."""
    if run.status.progress is None:
        return run
    update = {"activity": "", "eta": "", "time": run.now, **changes}
    return run.with_status(progress=run.status.progress.model_copy(update=update))


def shown(progress: Progress) -> ProgressStatus:
    eta = progress.eta_seconds
    counted = f" {progress.current}/{progress.total}" if progress.total else ""
    return built(
        ProgressStatus,
        step=progress.step_id,
        activity=progress.activity,
        current=progress.current,
        total=progress.total,
        unit=progress.unit,
        display=f"{progress.step_id}{counted}",
        eta=duration(eta) if eta is not None and math.isfinite(eta) else "",
        loss="" if progress.loss is None else f"{progress.loss:.4g}",
        time=progress.updated,
    )


def duration(seconds: float) -> str:
    """As kubectl writes it: 45s, 4m10s, 2h5m, 3d4h."""
    whole = max(0, round(seconds))
    minutes, seconds_ = divmod(whole, 60)
    hours, minutes_ = divmod(minutes, 60)
    days, hours_ = divmod(hours, 24)
    if days:
        return f"{days}d{hours_}h"
    if hours:
        return f"{hours}h{minutes_}m"
    return f"{minutes}m{seconds_}s" if minutes else f"{seconds_}s"


def summary(values: dict[str, int | float | str]) -> dict[str, str]:
    """A step's numbers, as the status has them."""
    return {
        name[:64]: f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in sorted(values.items())
    }


def certified(certificate: Certificate) -> FormatStatus:
    return built(
        FormatStatus,
        name=certificate.format,
        consumer=certificate.consumer,
        worst_difference=f"{certificate.worst_difference:.1e}",
    )


def of_validation(error: ValidationError) -> str:
    first = error.errors()[:3]
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in first
    )
