"""What the engine of runs has to know of a kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel

from wan_operator.api.v1alpha1.common import Condition
from wan_operator.api.v1alpha1.runs import (
    CheckpointStatus,
    LastFailure,
    ProgressStatus,
    StepStatus,
)
from wan_operator.conditions.merge import Vocabulary, Wanted
from wan_operator.resources.labels import Manifest
from wan_runtime.contract.job import Result

if TYPE_CHECKING:
    from wan_operator.reconcile.runs.state import Run


class PlannedStep(Protocol):
    """One Job at a time, attempt after attempt."""

    @property
    def id(self) -> str:
        """Name of the step within its run."""

    @property
    def reports_as(self) -> str:
        """Id that its pods' Results give."""

    @property
    def group(self) -> str:
        """Name that it shares with steps that do a part of the same work."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of the steps whose output it reads."""

    @property
    def after(self) -> tuple[str, ...]:
        """Ids of the steps that it waits for only so as not to run beside them."""

    @property
    def needs_gpu(self) -> bool:
        """Whether its pods hold GPUs."""

    @property
    def has_checkpoints(self) -> bool:
        """Whether an attempt goes on from where the last one was."""

    @property
    def must_commit(self) -> bool:
        """Whether a Result without a manifest is none."""

    @property
    def may_fail(self) -> bool:
        """Whether the run goes on without it once it has failed for good."""


class RetryLimits(Protocol):
    """Number of retries of each step, by kind of failure; None for any number."""

    @property
    def infrastructure(self) -> int | None: ...
    @property
    def out_of_memory(self) -> int | None: ...


class RunSpec(Protocol):
    """The fields of a spec that all kinds of runs have."""

    @property
    def suspend(self) -> bool: ...
    @property
    def active_deadline_seconds(self) -> int | None: ...
    @property
    def ttl_seconds_after_finished(self) -> int | None: ...
    @property
    def retries(self) -> RetryLimits: ...


class RunStatus(Protocol):
    """The fields of a status that all kinds of runs have, and what pydantic does with it."""

    @property
    def observed_generation(self) -> int | None: ...
    @property
    def conditions(self) -> list[Condition]: ...
    @property
    def start_time(self) -> datetime | None: ...
    @property
    def completion_time(self) -> datetime | None: ...
    @property
    def suspended_seconds(self) -> int: ...
    @property
    def suspended_since(self) -> datetime | None: ...
    @property
    def steps(self) -> list[StepStatus]: ...
    @property
    def progress(self) -> ProgressStatus | None: ...
    @property
    def checkpoint(self) -> CheckpointStatus | None: ...
    @property
    def lost_gpu_seconds(self) -> int: ...
    @property
    def last_failure(self) -> LastFailure | None: ...

    def model_copy(self, *, update: Mapping[str, Any]) -> Self: ...
    def model_dump(self, *, mode: str, by_alias: bool, exclude_none: bool) -> dict[str, Any]: ...


Spec = TypeVar("Spec", bound=RunSpec)
Status = TypeVar("Status", bound=RunStatus)


class Plan(ABC, Generic[Spec, Status]):
    """A kind of runs."""

    vocabulary: Vocabulary
    """What its conditions and events may say."""
    status: type[BaseModel]
    """Model of its status, whose bounds hold."""
    lasting: frozenset[str] = frozenset()
    """Types of its own conditions that stay while the run is stalled."""

    @abstractmethod
    def steps(self, spec: Spec) -> Sequence[PlannedStep]:
        """A graph, listed in an order in which its steps could run one by one. A step runs once
        nothing is left that it waits for, beside whatever else does."""

    @abstractmethod
    def files(self, run: Run[Spec, Status], id: str) -> tuple[Manifest, ...]:
        """What the pods of a step mount: the job file. Put back while its pods have not started."""

    def services(self, run: Run[Spec, Status], id: str) -> tuple[Manifest, ...]:
        """What the pods of a step reach each other by, made with each attempt; none for one pod.
        They go with the resource."""
        return ()

    @abstractmethod
    def job(self, run: Run[Spec, Status], id: str, number: int) -> Manifest:
        """The Job of attempt `number` of a step."""

    @abstractmethod
    def finished(self, run: Run[Spec, Status], id: str, result: Result) -> Run[Spec, Status]:
        """The run with what the end of a step that is done adds to its status."""

    @abstractmethod
    def conditions(self, run: Run[Spec, Status], leading: Wanted) -> Sequence[Wanted]:
        """Conditions of its own; `leading` says most about the state of the run."""

    @abstractmethod
    def words(self, run: Run[Spec, Status], said: str) -> str:
        """Text that a pod has left, with names that the operator alone knows."""

    @abstractmethod
    def outcome(self, run: Run[Spec, Status]) -> str:
        """What a complete run has made, in words."""

    @abstractmethod
    def repeats_on(self, run: Run[Spec, Status], id: str) -> int:
        """Number of GPUs on which an attempt does again what the last one had not committed."""
