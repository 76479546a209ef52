"""What `kubectl wan plan` has to know of a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from wan_operator.api.v1alpha1.common import ApiModel, PodTemplate
from wan_runtime.planner.gpus import Gpu

Spec = TypeVar("Spec", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Document(Generic[Spec]):
    """A resource in a YAML file."""

    kind: str
    name: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one document."""

    text: str
    rows: list[dict[str, Any]]
    fits: bool
    """Always true for a comparison, which shows where it would."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedKind(Generic[Spec]):
    """A kind that can be planned without a cluster."""

    spec: type[Spec]
    fault: Callable[[Spec], str | None]
    """What a rule between fields, which planning relies on, finds: a field and what is right."""
    pod_template: Callable[[Spec], PodTemplate]
    """Whose node selector names the GPU."""
    on_one: Callable[[Document[Spec], Gpu, Sequence[Gpu], int | None], Plan]
    """(document, GPU, catalogue, clips)."""
    on_all: Callable[[Document[Spec], Sequence[Gpu], int | None], Plan]
    """(document, catalogue, clips)."""
