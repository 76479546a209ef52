"""What `kubectl wan plan` has to know of a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from wan_operator.api.v1alpha1.common import ApiModel
from wan_operator.api.v1alpha1.pods import PodTemplate
from wan_runtime.planner.gpus import Gpu

Spec = TypeVar("Spec", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Document(Generic[Spec]):
    """A resource in a YAML file."""

    kind: str
    name: str
    spec: Spec
    beside: tuple[Document[Any], ...] = ()
    """All that were read with it, which it may name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one document."""

    text: str
    rows: list[dict[str, Any]]
    fits: bool
    """Always true for a comparison, which shows where it would."""


class OnGpu(Protocol):
    """A document planned on one type of GPU."""

    @property
    def plan(self) -> object | None:
        """None for a Tiny preset, which fits everywhere."""

    @property
    def fits(self) -> bool: ...


One = TypeVar("One", bound=OnGpu)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedKind(Generic[Spec, One]):
    """A kind that can be planned without a cluster."""

    spec: type[Spec]
    pod_template: Callable[[Spec], PodTemplate]
    """Whose node selector names the GPU."""
    planned: Callable[[Document[Spec], Gpu, Sequence[Gpu], int | None], One]
    """(document, GPU, catalogue, clips)."""
    rank: Callable[[One], tuple[bool, float]]
    """Order of a comparison: what fits first, then by the money that equal work costs."""
    description: Callable[[One], str]
    comparison: Callable[[Sequence[One]], str]
    as_json: Callable[[One], dict[str, Any]]

    def on_one(
        self, document: Document[Spec], gpu: Gpu, catalogue: Sequence[Gpu], clips: int | None
    ) -> Plan:
        """The plan on one type of GPU."""
        one = self.planned(document, gpu, catalogue, clips)
        return Plan(self.description(one), [self.as_json(one)], one.fits)

    def on_all(self, document: Document[Spec], catalogue: Sequence[Gpu], clips: int | None) -> Plan:
        """The plans on all types of the catalogue, side by side."""
        plans = [self.planned(document, gpu, catalogue, clips) for gpu in catalogue]
        compared = plans[:1] if plans[0].plan is None else sorted(plans, key=self.rank)
        return Plan(self.comparison(compared), [self.as_json(each) for each in compared], True)
