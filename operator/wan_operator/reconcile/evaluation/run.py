"""A WanEvaluation for the engine of runs: its steps, the job file and the Job of each attempt, and
what the end of a step adds to its status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wan_operator.api.v1alpha1.common import Artifact
from wan_operator.api.v1alpha1.evaluation import WanEvaluationSpec, WanEvaluationStatus
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate, EffectiveEvaluation
from wan_operator.api.v1alpha1.model import PersistentVolumeClaimSource
from wan_operator.conditions.evaluation import EVALUATIONS, GATE_PASSED
from wan_operator.conditions.merge import Wanted
from wan_operator.reconcile.evaluation import fit
from wan_operator.reconcile.evaluation.plan import (
    EvaluationRun,
    EvaluationStep,
    inputs_of,
    plan_steps,
)
from wan_operator.reconcile.evaluation.verdict import gate_condition, with_verdict
from wan_operator.reconcile.evaluation.work import job_spec
from wan_operator.reconcile.runs.plan import Plan
from wan_operator.reconcile.runs.report import joined
from wan_operator.reconcile.store import ca_bundle, cache_volume, named
from wan_operator.resources.configmaps import job_config_map
from wan_operator.resources.jobs import Attempt, job
from wan_operator.resources.labels import Manifest
from wan_runtime.contract.evaluation import RATING_PORT
from wan_runtime.contract.job import Result
from wan_runtime.contract.steps import FACTS, Step

SMALL_PIXELS = 2**24
"""Pixels of a video below which steps that read videos take little: 97 frames of 480x360."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan(Plan[WanEvaluationSpec, WanEvaluationStatus]):
    """The part of a run that is an evaluation's own."""

    candidates: Sequence[EffectiveCandidate] = ()
    """As they were when it began; none before."""
    planned: Sequence[EvaluationStep] = ()
    """Its steps, which there are many of: one list for a whole decision."""

    vocabulary = EVALUATIONS
    status = WanEvaluationStatus
    lasting = frozenset({GATE_PASSED})

    def steps(self, spec: WanEvaluationSpec) -> Sequence[EvaluationStep]:
        return self.planned

    def step(self, id: str) -> EvaluationStep:
        return next(step for step in self.planned if step.id == id)

    @classmethod
    def of(
        cls, spec: WanEvaluationSpec, candidates: Sequence[EffectiveCandidate]
    ) -> EvaluationPlan:
        """The plan of an evaluation that has begun with these candidates; of nothing without."""
        return cls(candidates, plan_steps(spec, candidates) if candidates else ())

    def files(self, run: EvaluationRun, id: str) -> tuple[Manifest, ...]:
        assert run.status.effective is not None
        planned = self.step(id)
        spec = job_spec(
            run.owner,
            run.spec,
            run.status.effective,
            planned,
            inputs_of(run.status.steps, planned.needs),
            with_ca=ca_bundle(run.spec.store, run.settings) is not None,
        )
        return (job_config_map(run.owner, spec),)

    def job(self, run: EvaluationRun, id: str, number: int) -> Manifest:
        return job(self._attempt(run, self.step(id), number))

    def finished(self, run: EvaluationRun, id: str, result: Result) -> EvaluationRun:
        """The run with the verdict and the report."""
        if id != Step.COMPARE or result.manifest is None:
            return run
        report = Artifact(uri=result.manifest.uri, sha256=result.manifest.sha256)
        return with_verdict(run, result.verdict, report)

    def conditions(self, run: EvaluationRun, leading: Wanted) -> list[Wanted]:
        return gate_condition(run)

    def words(self, run: EvaluationRun, said: str) -> str:
        assert run.status.effective is not None
        return named(said, run.spec.store, run.status.effective.store)

    def outcome(self, run: EvaluationRun) -> str:
        status = run.status
        failed = [step.name for step in status.steps if step.state in ("Failed", "Stopped")]
        without = f"; {joined(failed)} failed" if failed else ""
        decided = {"Winner": f"{status.winner} wins by {status.metric}", "Tie": "a tie"}
        head = decided.get(status.decision, status.decision or "no verdict was reported")
        return f"{head}: {status.message}{without}" if status.message else head + without

    def repeats_on(self, run: EvaluationRun, id: str) -> int:
        """None: each video is in the store as soon as it is rendered."""
        return 0

    def _attempt(self, run: EvaluationRun, planned: EvaluationStep, number: int) -> Attempt:
        effective, candidate = run.status.effective, planned.candidate
        assert effective is not None
        host, cache, volume, key = None, None, None, None
        if planned.step is Step.GENERATE and candidate is not None:
            key = _api_key(run.spec, candidate.name)
        if candidate is not None and candidate.claim_name:
            volume = PersistentVolumeClaimSource(
                claim_name=candidate.claim_name, path=candidate.claim_path
            )
        # An import or a rendering of a base model is as large as the model.
        reads_little = (candidate is None or not candidate.preset) and is_small(effective)
        # Networks of metrics, once for each clip at a time.
        reads_little &= run.spec.metric_weights is None or candidate is not None
        if planned.needs_gpu and candidate is not None:
            host = fit.host_plan(run.spec, effective, candidate, run.settings)
            cache = cache_volume(run.settings) if candidate.s3 else None
        return Attempt(
            owner=run.owner,
            step_id=planned.id,
            step=planned.step.value,
            number=number,
            preset="" if candidate is None else candidate.preset,
            needs_gpu=planned.needs_gpu,
            deterministic=False,
            host=host,
            gpus=1,
            image=effective.image,
            image_pull_policy=run.settings.image_pull_policy,
            image_pull_secrets=run.settings.image_pull_secrets,
            store_secret=effective.store.secret_name,
            ca_bundle=ca_bundle(run.spec.store, run.settings),
            model_volume=volume,
            model_cache=cache,
            overrides=run.spec.resources,
            pod_template=run.spec.pod_template,
            http_port=RATING_PORT if FACTS[planned.step].serves_people else None,
            small=FACTS[planned.step].serves_people or key is not None or reads_little,
            api_key=key,
            avoid_node=run.failed_on(planned.id, number - 1),
            queue_name=run.queue_name,
        )


def is_small(effective: EffectiveEvaluation) -> bool:
    """Whether videos are as small as those of the Tiny presets."""
    return effective.width * effective.height * effective.frames <= SMALL_PIXELS


def _api_key(spec: WanEvaluationSpec, name: str) -> tuple[str, str] | None:
    """(Secret, key) of the service that renders a candidate."""
    candidate = next(each for each in spec.candidates if each.name == name)
    service = candidate.service_ref
    return None if service is None else (service.key_secret_ref.name, service.key_secret_ref.key)
