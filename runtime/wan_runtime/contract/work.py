"""What a step does for its kind of run."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from wan_runtime.contract.base import Contract
from wan_runtime.contract.steps import Step
from wan_runtime.contract.training import Parallelism

if TYPE_CHECKING:
    from wan_runtime.contract.job import JobSpec


class Work(Contract):
    """The part of a job file that differs from kind to kind. Each kind has a `kind` of its own, by
    which job files name it."""

    steps: ClassVar[frozenset[Step]]
    """Steps that do work of this kind."""

    @property
    def renders_previews(self) -> bool:
        """Whether training renders some."""
        return False

    @property
    def parallelism(self) -> Parallelism:
        """Processes that do its steps together, where a step can be done so."""
        return Parallelism()

    @abstractmethod
    def identity(self, job: JobSpec) -> dict[str, object]:
        """The fields that shape what the step of `job` commits, beside its inputs, in JSON's types.

        Two jobs of equal identity commit the same: what one has committed counts as done by the
        other, and its checkpoints are gone on from.
        """


def model_identity(job: JobSpec) -> dict[str, object]:
    """The part of the identity that steps with a model share."""
    return {"model": job.base.stated(), "expert": job.expert}
