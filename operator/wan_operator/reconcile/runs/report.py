"""Conditions, progress and messages in the status of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from wan_operator.api.v1alpha1.runs import ProgressStatus, StepStatus
from wan_operator.conditions.merge import Wanted, merge
from wan_operator.conditions.runs import RUNNING
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.observed import (
    Observed,
    Raw,
    container_state,
    controller_uid,
    is_deleting,
    owned_by,
    parse_time,
    step_of,
)
from wan_operator.reconcile.runs.attempted import rank_of
from wan_operator.reconcile.runs.plan import Spec, Status
from wan_operator.reconcile.runs.state import Run
from wan_operator.settings import Settings
from wan_runtime.contract.job import Progress
from wan_runtime.contract.summary import HELD_OUT_CLIPS, TRAINED_CLIPS, TRAINED_STEPS

PENDING = "waiting for the pod"
UNREAD = ("", "starting", PENDING)
"""Activities that stand for a progress that nobody has read yet, or that an end has left; a pod's
own first word is `starting`."""


def with_conditions(run: Run[Spec, Status], *news: Wanted) -> Run[Spec, Status]:
    """The run with conditions for this news, the first of which leads. Running is false with the
    reason of the first, unless it is news itself."""
    wanted = together(news)
    if not any(each.type == RUNNING for each in wanted):
        first = wanted[0]
        wanted.append(Wanted(RUNNING, False, first.reason, first.message))
    wanted += run.plan.conditions(run, wanted[0])
    merged = merge(
        run.status.conditions,
        wanted,
        run.generation,
        run.now,
        run.plan.vocabulary,
        run.owner.namespace,
    )
    return run.with_status(conditions=merged)


def together(news: Iterable[Wanted]) -> list[Wanted]:
    """One condition of each type: the first reason, and what all of them say."""
    by_type: dict[str, list[Wanted]] = {}
    for each in news:
        by_type.setdefault(each.type, []).append(each)
    return [
        replace(same[0], message="; ".join(dict.fromkeys(each.message for each in same)))
        for same in by_type.values()
    ]


def joined(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def progressed(run: Run[Spec, Status], computing: Sequence[str]) -> Run[Spec, Status]:
    """The run with fresh progress, if there is any and the last is old enough.

    `computing`: ids of the steps whose container runs. What of them has not answered would be
    missing from the sum, so nothing is summed before all have.
    """
    open_ = [step.name for step in run.running]
    if not open_:
        return run
    names = together_with(run, open_)
    label = label_of(run, names)
    before, fresh = run.status.progress, run.observed.pages
    if before is None or before.step != label:
        start = ProgressStatus(step=label, activity=PENDING, display=label, time=run.now)
        run, before = run.with_status(progress=start), start
    elif (
        before.activity not in UNREAD
        and (run.now - before.time).total_seconds() < run.settings.progress_seconds
    ):
        return run
    if not computing or not fresh.keys() >= set(computing):
        return run
    said = [
        fresh[name] for name in computing if fresh[name].step_id == run.planned(name).reports_as
    ]
    if len(said) < len(computing):
        return run
    others = [run.step(name) for name in names if name not in computing]
    current = summed(label, said, others).model_copy(update={"time": before.time})
    if current == before:
        return run
    return run.with_status(progress=current.model_copy(update={"time": run.now}))


def together_with(run: Run[Spec, Status], open_: Sequence[str]) -> list[str]:
    """Ids of the steps that share one progress with the open ones: both experts, all parts of an
    encoding. Those that are done or wait stay in the sum, or it would step back when one ends."""
    peers = {(each.group, each.needs, each.after) for each in map(run.planned, open_)}
    return [each.id for each in run.planned_steps if (each.group, each.needs, each.after) in peers]


def label_of(run: Run[Spec, Status], names: Sequence[str]) -> str:
    """The step's id, or what several have in common."""
    if len(names) == 1:
        return names[0]
    return ", ".join(sorted({run.planned(name).group for name in names}))


def halted(run: Run[Spec, Status], **changes: str) -> Run[Spec, Status]:
    """The run with the progress that it had made: what does not run has no time of arrival."""
    if run.status.progress is None:
        return run
    progress = run.status.progress.model_copy(
        update={"activity": "", "eta": "", "waits_for": None, "waits_reason": None, **changes}
    )
    if progress == run.status.progress:
        return run
    return run.with_status(progress=progress.model_copy(update={"time": run.now}))


def summed(label: str, said: Sequence[Progress], others: Sequence[StepStatus]) -> ProgressStatus:
    """The sum of what pods say and of what is known of their peers; done when the slowest is."""
    units = {each.unit for each in said}
    known = len(units) == 1 and all(each.total for each in said)
    current, total = sum(each.current for each in said), sum(each.total for each in said)
    for done, of in [share(step, round(total / len(said))) for step in others]:
        current, total = current + done, total + of
    etas = [each.eta_seconds for each in said]
    eta = max((each for each in etas if each is not None), default=None)
    counted = f"{current}/{total}" + (" MB" if units == {"MB"} else "")
    whole = eta is not None and None not in etas and all(math.isfinite(each or 0) for each in etas)
    return built(
        ProgressStatus,
        step=label,
        activity=", ".join(dict.fromkeys(each.activity for each in said)),
        current=current if len(units) == 1 else 0,
        total=total if known else 0,
        unit=said[0].unit,
        display=f"{label} {counted}" if known else label,
        eta=duration(eta) if eta is not None and whole else "",
        waits_for="; ".join(dict.fromkeys(filter(None, (each.waits_for for each in said)))) or None,
        waits_reason=next((each.waits_reason.value for each in said if each.waits_reason), None),
        loss=", ".join(f"{each.loss:.4g}" for each in said if each.loss is not None),
        time=max(each.updated for each in said),
    )


def share(step: StepStatus, usual: int) -> tuple[int, int]:
    """(done, total) of a step that does not run: done whole, or as far as it is safe. `usual`: of
    its peers, which do as much."""
    if step.state == "Complete":
        total = sum(
            int(step.summary[name])
            for name in (TRAINED_STEPS, TRAINED_CLIPS, HELD_OUT_CLIPS)
            if step.summary.get(name, "").isdecimal()
        )
        return (total or usual,) * 2
    return min(step.checkpoint.step if step.checkpoint else 0, usual), usual


def duration(seconds: float) -> str:
    """Seconds as kubectl writes them: 45s, 4m10s, 2h5m, 3d4h."""
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


def progress_addresses(
    cr: Raw, observed: Observed, settings: Settings, now: datetime
) -> dict[str, str]:
    """Step id -> address of its running pod of rank 0, if their progress is due to be read."""
    last = cr.get("status", {}).get("progress")
    age = (now - parse_time(last["time"])).total_seconds() if last else 0.0
    if last and last["activity"] not in UNREAD and age < settings.progress_seconds:
        return {}
    jobs = {item["metadata"]["uid"] for item in owned_by(observed.jobs, cr["metadata"]["uid"])}
    return {
        step_of(pod): pod["status"]["podIP"]
        for pod in observed.pods
        if container_state(pod)[0] == "running"
        and rank_of(pod) == 0
        and not is_deleting(pod)
        and pod["status"].get("podIP")
        and controller_uid(pod) in jobs
    }
