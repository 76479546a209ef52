"""A WanEvaluation, planned: its steps, and memory, GPU-hours and cost of the videos. Offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wan_operator.api.v1alpha1 import finetune
from wan_operator.api.v1alpha1.evaluation import WanEvaluationSpec
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate
from wan_operator.kubectl.kind import Document, PlannedKind
from wan_operator.kubectl.table import aligned
from wan_operator.kubectl.words import EXPLAINED, explained, money, ranged, rounded, steps_of
from wan_operator.reconcile.evaluation.finetunes import FineTune
from wan_operator.reconcile.evaluation.fit import HOUR, plan_of, scoring_seconds, videos_of
from wan_operator.reconcile.evaluation.plan import plan_steps
from wan_operator.reconcile.evaluation.resolve import candidate_of, size_of
from wan_operator.reconcile.finetune.plan import buckets_of
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.metric_names import METRICS, MetricName
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.power import clips_for, smallest_effect
from wan_runtime.planner.remedies import serving_remedies
from wan_runtime.planner.serving import ServingPlan
from wan_runtime.presets import PRESETS

Evaluation = Document[WanEvaluationSpec]
VERDICTS = ("no", "unlikely", "barely", "yes")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class PlannedCandidate:
    """One candidate on one type of GPU."""

    candidate: EffectiveCandidate
    videos: int
    plan: ServingPlan | None
    """Plan of one video. None: nothing is rendered, or it is not known with what, or it is a Tiny
    preset."""
    remedies: list[str]

    @property
    def hours(self) -> float:
        return 0.0 if self.plan is None else self.videos * self.plan.seconds_per_clip / HOUR


@dataclass(frozen=True, slots=True)
class PlannedEvaluation:
    """A WanEvaluation on one type of GPU."""

    evaluation: Evaluation
    gpu: Gpu
    size: Bucket
    candidates: tuple[PlannedCandidate, ...]
    unknown: tuple[str, ...]
    """Fine-tunes that no file had."""
    scoring: float
    """GPU-hours of the pods that measure."""

    @property
    def plan(self) -> ServingPlan | None:
        """Plan of the candidate that needs the most memory."""
        plans = [each.plan for each in self.candidates if each.plan is not None]
        return max(plans, key=lambda each: each.gib, default=None)

    @property
    def fits(self) -> bool:
        return all(each.plan is None or each.plan.fits for each in self.candidates)

    @property
    def verdict(self) -> str:
        verdicts = [each.plan.verdict for each in self.candidates if each.plan is not None]
        return min(verdicts, key=VERDICTS.index, default="yes")

    @property
    def hours(self) -> float:
        return self.scoring + sum(each.hours for each in self.candidates)

    @property
    def cost(self) -> float:
        price = self.evaluation.spec.price_per_gpu_hour
        return self.hours * (self.gpu.price_per_hour if price is None else price)


def planned(
    evaluation: Evaluation, gpu: Gpu, catalogue: Sequence[Gpu], _clips: int | None
) -> PlannedEvaluation:
    """The plan, with the base models of fine-tunes that were read with it."""
    spec = evaluation.spec
    runs = {
        each.name: FineTune(each.spec, finetune.WanFineTuneStatus())
        for each in evaluation.beside
        if each.kind == finetune.KIND
    }
    named = [each.fine_tune_ref.name if each.fine_tune_ref else "" for each in spec.candidates]
    candidates = [
        candidate_of(each, runs.get(name))
        for each, name in zip(spec.candidates, named, strict=True)
    ]
    source = spec.clips.fine_tune_ref.name if spec.clips.fine_tune_ref else ""
    recorded = None
    if source in runs:
        dataset = runs[source].spec.dataset
        fps = dataset.fps or int(PRESETS[runs[source].spec.model.preset].fps)
        recorded = (buckets_of(runs[source].spec)[0], fps)
    size, _ = size_of(spec, candidates, recorded)
    unknown = sorted({name for name in (source, *named) if name} - runs.keys())
    made = tuple(_planned(spec, size, each, gpu, catalogue) for each in candidates)
    scoring = scoring_seconds(spec, size, candidates) / HOUR
    return PlannedEvaluation(evaluation, gpu, size, made, tuple(unknown), scoring)


def _planned(
    spec: WanEvaluationSpec,
    size: Bucket,
    candidate: EffectiveCandidate,
    gpu: Gpu,
    catalogue: Sequence[Gpu],
) -> PlannedCandidate:
    plan = plan_of(spec, size, candidate, gpu) if size.frames else None
    remedies = [] if plan is None or plan.fits else serving_remedies(plan.work, gpu, catalogue)
    return PlannedCandidate(candidate, videos_of(spec, candidate), plan, remedies)


def by_cost(one: PlannedEvaluation) -> tuple[bool, float]:
    return not one.fits, one.cost


# For people


def description(one: PlannedEvaluation) -> str:
    plan = one.plan
    rows = [
        ("steps", ", ".join(steps(one))),
        *((f"  {each.candidate.name}", _candidate(each)) for each in one.candidates),
        *([("  score", _scoring(one))] if one.scoring else []),
        ("separates", _power(one.evaluation.spec)),
    ]
    if one.unknown:
        text = f"{', '.join(one.unknown)}: give the files of these fine-tunes too"
        rows.append(("not known", text))
    if plan is not None:
        gpu = one.gpu
        rows += [
            ("GPU", f"{gpu.name}: {gpu.memory_gib:.1f} GiB, {gpu.price_per_hour:.2f} an hour"),
            ("fits", EXPLAINED[one.verdict]),
            *(
                ("  fits with", f"{each.candidate.name}: {', or '.join(each.remedies)}")
                for each in one.candidates
                if each.remedies
            ),
            ("total", f"{ranged(one.hours, plan.time_band, 'GPU-hours')}, costs {money(one.cost)}"),
            ("confidence", explained(plan.confidence)),
        ]
    return f"{_head(one)}\n{aligned(rows)}"


def steps(one: PlannedEvaluation) -> list[str]:
    """Names of the steps."""
    candidates = [each.candidate for each in one.candidates]
    return [each.id for each in plan_steps(one.evaluation.spec, candidates)]


def _head(one: PlannedEvaluation) -> str:
    size, count = one.size, len(one.candidates)
    many = f"{count} candidates" if count > 1 else "1 candidate"
    videos = f"up to {one.evaluation.spec.clips.count} clips"
    shape = f" of {size.width}x{size.height} and {size.frames} frames" if size.frames else ""
    return f"WanEvaluation {one.evaluation.name}: {many} on {videos}{shape}"


def unmeasured(spec: WanEvaluationSpec) -> list[MetricName]:
    """Metrics whose networks compute on a GPU: how long was never measured."""
    networks = [name for name in spec.metrics if METRICS[name].mounted is not None]
    return networks if spec.score_on_gpu else []


def _scoring(one: PlannedEvaluation) -> str:
    hours = f"{one.scoring:.2f} GPU-hours"
    names = ", ".join(unmeasured(one.evaluation.spec))
    return f"{hours}, without the networks of {names}: not measured" if names else hours


def _effect(spec: WanEvaluationSpec) -> float | None:
    """Smallest effect that the clips show by metrics alone. None: they give no winner."""
    if spec.clips.count < spec.decision.minimum_clips:
        return None
    return smallest_effect(spec.clips.count, spec.decision.level)


def _power(spec: WanEvaluationSpec) -> str:
    effect = _effect(spec)
    if effect is None:
        return f"nothing: fewer than {spec.decision.minimum_clips} clips give no winner"
    half = clips_for(effect / 2, spec.decision.level)
    return (
        f"candidates whose difference is {effect:.2f} of its deviation from clip to clip, in 95 of "
        f"100 evaluations; half of that with {half:.0f} clips"
    )


def _candidate(each: PlannedCandidate) -> str:
    preset, plan = each.candidate.preset, each.plan
    if not preset:
        return "known with its fine-tune" if each.candidate.fine_tune else "is not rendered here"
    if plan is None:
        return f"{preset}, fits everywhere and is not planned"
    return (
        f"{preset}, {each.videos} videos of {steps_of(plan.work)}: {plan.gib:.1f} GiB, "
        f"{plan.seconds_per_clip:.0f} s each, {each.hours:.1f} GPU-hours"
    )


def comparison(compared: Sequence[PlannedEvaluation]) -> str:
    first = compared[0]
    if first.plan is None:
        return description(first)
    rows = [("GPU", "HAS", "NEEDS", "FITS", "GPU-HOURS", "COST", "TIME IS")]
    for one in compared:
        plan = one.plan
        assert plan is not None
        rows.append(
            (
                one.gpu.name,
                f"{one.gpu.memory_gib:.1f}",
                f"{plan.gib:.1f}",
                one.verdict,
                f"{one.hours:.1f}",
                money(one.cost),
                f"{plan.confidence} ±{plan.time_band:.0%}",
            )
        )
    names = ", ".join(unmeasured(first.evaluation.spec))
    more = (
        f"\nnot in it: GPU time of the networks of {names}, which was not measured" if names else ""
    )
    return f"{_head(first)}\n{aligned(rows)}{more}"


# For programs


def as_json(one: PlannedEvaluation) -> dict[str, Any]:
    effect = _effect(one.evaluation.spec)
    return {
        "kind": "WanEvaluation",
        "name": one.evaluation.name,
        "fits": one.verdict,
        "gpu": one.gpu.name if one.hours else None,
        "clips": one.evaluation.spec.clips.count,
        "width": one.size.width,
        "height": one.size.height,
        "frames": one.size.frames,
        "steps": steps(one),
        "candidates": [
            {
                "name": each.candidate.name,
                "preset": each.candidate.preset or None,
                "videos": each.videos,
                "fits": None if each.plan is None else each.plan.verdict,
                "fitsWith": each.remedies,
                "gpuGib": None if each.plan is None else rounded(each.plan.gib),
                "secondsPerVideo": (
                    None if each.plan is None else rounded(each.plan.seconds_per_clip)
                ),
                "gpuHours": rounded(each.hours) if each.plan is not None else None,
            }
            for each in one.candidates
        ],
        "smallestEffect": None if effect is None else rounded(effect),
        "unknownFineTunes": list(one.unknown),
        "unmeasuredMetrics": unmeasured(one.evaluation.spec),
        "gpuHours": rounded(one.hours) if one.hours else None,
        "cost": rounded(one.cost) if one.hours else None,
    }


# For the registry


EVALUATION = PlannedKind(
    spec=WanEvaluationSpec,
    pod_template=lambda spec: spec.pod_template,
    planned=planned,
    rank=by_cost,
    description=description,
    comparison=comparison,
    as_json=as_json,
)
