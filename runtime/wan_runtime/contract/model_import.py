"""The import of a base model, for a fine-tune or a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from wan_runtime.contract.steps import Step
from wan_runtime.contract.work import Work, model_identity

if TYPE_CHECKING:
    from wan_runtime.contract.job import JobSpec


class ImportWork(Work):
    """All that it needs is the model in the envelope."""

    kind: Literal["Import"] = "Import"

    steps: ClassVar[frozenset[Step]] = frozenset({Step.IMPORT})

    def identity(self, job: JobSpec) -> dict[str, object]:
        return model_identity(job)
