"""One run as it is now, and the small changes that decisions make to its status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Self

from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.conditions.merge import confirmed
from wan_operator.reconcile.bounds import fitted
from wan_operator.reconcile.decision import Delete
from wan_operator.reconcile.observed import (
    Observed,
    Raw,
    attempt_of,
    finished,
    is_deleting,
    owned_by,
    step_of,
)
from wan_operator.reconcile.runs import failures
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.runs.plan import Plan, PlannedStep, Spec, Status
from wan_operator.resources.labels import Owner
from wan_operator.settings import Settings
from wan_runtime.contract.reasons import Reason

KEEP_ATTEMPTS = 3
"""Jobs of earlier attempts that stay beside the newest, for their logs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(Generic[Spec, Status]):
    owner: Owner
    generation: int
    queue_name: str
    spec: Spec
    status: Status
    plan: Plan[Spec, Status]
    observed: Observed
    """Children of this very resource only."""
    strangers: tuple[Raw, ...]
    """Children that carry our labels and belong to another resource: most likely one of the same
    name that was just deleted."""
    settings: Settings
    now: datetime
    """Time of the decision in whole seconds, the resolution of Kubernetes times."""

    @property
    def planned_steps(self) -> Sequence[PlannedStep]:
        return self.plan.steps(self.spec)

    def planned(self, id: str) -> PlannedStep:
        return next(planned for planned in self.planned_steps if planned.id == id)

    def step(self, id: str) -> StepStatus:
        return next(step for step in self.status.steps if step.name == id)

    @property
    def running(self) -> list[StepStatus]:
        """Steps with an open attempt."""
        return [step for step in self.status.steps if step.state == "Running"]

    def is_over(self, step: StepStatus) -> bool:
        """Whether nothing waits for the step any more: it is done, or the run goes on without
        it."""
        failed = step.state in ("Failed", "Stopped")
        return step.state == "Complete" or (failed and self.planned(step.name).may_fail)

    @property
    def ready(self) -> list[PlannedStep]:
        """Steps that wait for no other step; perhaps for the time of their next attempt."""
        done = {step.name for step in self.status.steps if self.is_over(step)}
        return [
            planned
            for planned in self.planned_steps
            if self.step(planned.id).state == "Waiting"
            and done.issuperset((*planned.needs, *planned.after))
        ]

    @property
    def is_before_gpus(self) -> bool:
        """Whether no step with a GPU is open or past: until then nothing is lost by waiting."""
        return not any(
            planned.needs_gpu and self.step(planned.id).state != "Waiting"
            for planned in self.planned_steps
        )

    def lacks_input(self, step: StepStatus) -> bool:
        """Whether the last attempt of a step, before any GPU, has found what somebody must mend.
        Its reason and message stay while an attempt checks that again."""
        known = self.is_before_gpus and not self.planned(step.name).needs_gpu
        return known and step.reason in failures.MENDABLE

    def failed_on(self, id: str, attempt: int) -> str:
        """Name of the node on which this attempt of a step has just failed; empty for another, and
        where it failed because of another node."""
        last = self.status.last_failure
        if last is None or last.reason == Reason.RANK_LOST:
            return ""
        return last.node if (last.step, last.attempt) == (id, attempt) else ""

    def with_status(self, **changes: Any) -> Self:
        return replace(self, status=self.status.model_copy(update=changes))

    def with_step(self, step: StepStatus) -> Self:
        steps = [step if step.name == old.name else old for old in self.status.steps]
        return self.with_status(steps=steps)

    def dump(self) -> dict[str, Any]:
        """The status as it goes to the API server."""
        conditions = confirmed(self.status.conditions, self.generation)
        update = {"observed_generation": self.generation, "conditions": conditions}
        status = self.status.model_copy(update=update)
        raw = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return fitted(raw, self.plan.status)


def read(
    observed: Observed,
    settings: Settings,
    now: datetime,
    *,
    plan: Plan[Spec, Status],
    owner: Owner,
    generation: int,
    queue_name: str,
    spec: Spec,
    status: Status,
) -> Run[Spec, Status]:
    """The run of `owner`, with what was observed sorted into its own and strangers'."""
    jobs = owned_by(observed.jobs, owner.uid)
    config_maps = owned_by(observed.config_maps, owner.uid)
    ours = {item["metadata"]["uid"] for item in (*jobs, *config_maps)}
    everything = (*observed.jobs, *observed.config_maps)
    return Run(
        owner=owner,
        generation=generation,
        queue_name=queue_name,
        spec=spec,
        status=status,
        plan=plan,
        observed=replace(
            observed, children={**observed.children, "Job": jobs, "ConfigMap": config_maps}
        ),
        strangers=tuple(item for item in everything if item["metadata"]["uid"] not in ours),
        settings=settings,
        now=now.replace(microsecond=0),
    )


def merged_steps(run: Run[Spec, Status]) -> list[StepStatus]:
    """One entry for each planned step, with what is known of it. A step that an edit took out and
    has put back continues the attempt numbers of its old Jobs, whose names are taken."""
    known = {step.name: step for step in run.status.steps}
    return [
        known.get(planned.id)
        or StepStatus(
            name=planned.id, state="Waiting", attempts=last_attempt(run, planned.id) if known else 0
        )
        for planned in run.planned_steps
    ]


def last_attempt(run: Run[Spec, Status], id: str) -> int:
    """Highest attempt number of the Jobs that are there; 0 without any."""
    return max((attempt_of(job) for job in run.observed.jobs if step_of(job) == id), default=0)


def open_attempt(run: Run[Spec, Status], step: StepStatus) -> Attempted | None:
    """The open attempt, or one whose Job was created before a crash kept it out of the status."""
    least = step.attempts if step.state == "Running" else step.attempts + 1
    jobs = [
        job for job in run.observed.jobs if step_of(job) == step.name and attempt_of(job) >= least
    ]
    job = max(jobs, key=attempt_of, default=None)
    return None if job is None else Attempted.read(job, run.observed.pods)


def opened(run: Run[Spec, Status], step: StepStatus, attempt: int) -> StepStatus:
    return step.model_copy(
        update={
            "state": "Running",
            "attempts": attempt,
            "next_attempt_time": None,
            "start_time": step.start_time or run.now,
            **({} if run.lacks_input(step) else {"reason": "", "message": ""}),
        }
    )


def adopted(run: Run[Spec, Status]) -> Run[Spec, Status]:
    """The run with the attempts that a crash kept out of the status."""
    for step in run.status.steps:
        current = open_attempt(run, step) if step.state in ("Waiting", "Running") else None
        if current is not None and attempt_of(current.job) > step.attempts:
            run = run.with_step(opened(run, step, attempt_of(current.job)))
            run = run.with_status(start_time=run.status.start_time or run.now)
    return run


def closed(
    step: StepStatus, next_attempt_time: datetime | None = None, **changes: int | str
) -> StepStatus:
    """Waiting for another attempt."""
    update = {"state": "Waiting", "next_attempt_time": next_attempt_time, **changes}
    return step.model_copy(update=update)


def resumed(run: Run[Spec, Status]) -> Run[Spec, Status]:
    """Closes the account of a suspension."""
    since = run.status.suspended_since
    if since is None:
        return run
    held = int((run.now - since).total_seconds()) if run.status.start_time else 0
    total = run.status.suspended_seconds + held
    return run.with_status(suspended_since=None, suspended_seconds=total)


def deadline(run: Run[Spec, Status]) -> datetime | None:
    """When the run fails; None without a limit, before the first attempt and while suspended."""
    limit, started = run.spec.active_deadline_seconds, run.status.start_time
    if limit is None or started is None or run.status.suspended_since is not None:
        return None
    return started + timedelta(seconds=limit + run.status.suspended_seconds)


def orphans(run: Run[Spec, Status]) -> tuple[Delete, ...]:
    """Jobs of ours that run and should not: after the end, or of steps that an edit took out of the
    plan. Those that end by themselves stay, for their logs."""
    attempts = [open_attempt(run, step) for step in run.running]
    current = [attempted.job for attempted in attempts if attempted is not None]
    others = (
        Attempted.read(item, run.observed.pods)
        for item in run.observed.jobs
        if item not in current and not finished(item) and not is_deleting(item)
    )
    return tuple(
        Delete.of(attempted.job, "Job", "Foreground")
        for attempted in others
        if not attempted.is_over and not attempted.ends_itself
    )


def outdated(run: Run[Spec, Status], step: StepStatus, attempt: int) -> tuple[Delete, ...]:
    """Jobs of long past attempts: a run that is preempted every hour must not leave a Job for
    each."""
    return tuple(
        Delete.of(item, "Job", "Background")
        for item in run.observed.jobs
        if step_of(item) == step.name
        and attempt_of(item) < attempt - KEEP_ATTEMPTS
        and finished(item)
        and not is_deleting(item)
    )
