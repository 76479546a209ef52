"""What an evaluation consists of: its steps and what each waits for.

Derived from the spec and from what was resolved when it began, so that it comes out the same after
every restart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from wan_operator.api.v1alpha1.evaluation import WanEvaluationSpec, WanEvaluationStatus
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate
from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.runs.state import Run
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.steps import FACTS, Shard, Step, step_id

EvaluationRun = Run[WanEvaluationSpec, WanEvaluationStatus]


@dataclass(frozen=True, slots=True)
class EvaluationStep:
    """One Job at a time, attempt after attempt."""

    step: Step
    needs: tuple[str, ...] = ()
    """Ids of the steps whose output it reads."""
    candidate: EffectiveCandidate | None = None
    """What it renders, or whose base model it verifies."""
    shard: Shard | None = None
    """The part of the clips that it takes."""
    on_gpu: bool = False
    """It has a GPU whatever it renders."""
    after: tuple[str, ...] = ()
    has_checkpoints: bool = False

    @property
    def id(self) -> str:
        name = None if self.candidate is None else self.candidate.name
        return step_id(self.step, shard=self.shard, candidate=name)

    @property
    def reports_as(self) -> str:
        return self.id

    @property
    def group(self) -> str:
        return self.step.value

    @property
    def must_commit(self) -> bool:
        """All do: the next step reads what they committed."""
        return True

    @property
    def may_fail(self) -> bool:
        """Whether it is the work of one candidate, which then has no videos: they count as
        failures, and the others are compared."""
        return self.candidate is not None

    @property
    def needs_gpu(self) -> bool:
        renders = self.candidate is not None and bool(self.candidate.preset)
        return self.on_gpu or (FACTS[self.step].gpu and renders)


def plan_steps(
    spec: WanEvaluationSpec, candidates: Sequence[EffectiveCandidate]
) -> tuple[EvaluationStep, ...]:
    """A graph, listed in an order in which its steps could run one by one. All candidates are
    rendered side by side."""
    collect = EvaluationStep(Step.COLLECT)
    imports = importing(candidates)
    generates = [
        each
        for candidate in candidates
        for each in generating(spec, candidate, collect, imports.get(candidate.s3))
    ]
    rendered = (collect.id, *(each.id for each in generates))
    scores = [
        EvaluationStep(Step.SCORE, rendered, shard=shard, on_gpu=spec.score_on_gpu)
        for shard in shards(spec.parallelism.score)
    ]
    measured = (*rendered, *(each.id for each in scores))
    rates = [EvaluationStep(Step.RATE, measured)] if spec.ratings is not None else []
    compare = EvaluationStep(Step.COMPARE, (*measured, *(each.id for each in rates)))
    return (collect, *imports.values(), *generates, *scores, *rates, compare)


def importing(candidates: Iterable[EffectiveCandidate]) -> dict[str, EvaluationStep]:
    """S3 folder with base weights -> the step that verifies them, named after the first candidate
    that reads them."""
    steps: dict[str, EvaluationStep] = {}
    for each in candidates:
        if each.s3:
            steps.setdefault(each.s3, EvaluationStep(Step.IMPORT, candidate=each))
    return steps


def generating(
    spec: WanEvaluationSpec,
    candidate: EffectiveCandidate,
    collect: EvaluationStep,
    model: EvaluationStep | None,
) -> Iterable[EvaluationStep]:
    """The steps that make the videos of a candidate. Ready ones are found by one pod."""
    needs = (collect.id,) if model is None else (collect.id, model.id)
    for shard in shards(spec.parallelism.generate if candidate.preset else 1):
        yield EvaluationStep(Step.GENERATE, needs, candidate, shard)


def shards(count: int) -> list[Shard | None]:
    """All parts; one that takes everything if there is but one."""
    return [None] if count == 1 else [Shard(index=index, count=count) for index in range(count)]


def inputs_of(steps: Iterable[StepStatus], wanted: Collection[str]) -> dict[str, ManifestRef]:
    """Manifests of the steps of these ids that committed one. A base model is `import`, whichever
    candidate it was verified for."""
    return {
        _input(step.name): ManifestRef(uri=step.artifact.uri, sha256=step.artifact.sha256)
        for step in steps
        if step.artifact is not None and step.name in wanted
    }


def _input(name: str) -> str:
    return Step.IMPORT.value if name.startswith(f"{Step.IMPORT}-") else name
