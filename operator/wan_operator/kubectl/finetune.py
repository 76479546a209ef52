"""A WanFineTune, planned: memory, hours and cost. Offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec
from wan_operator.kubectl.kind import Document, PlannedKind
from wan_operator.kubectl.table import aligned
from wan_operator.kubectl.words import EXPLAINED, explained, money, ranged, rounded, term_rows
from wan_operator.reconcile.finetune.fit import helping, run_plan, warm_up_fault, workloads
from wan_operator.reconcile.finetune.host import shortage
from wan_operator.yaml_files import DocumentError
from wan_runtime.contract.training import Parallelism
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.run import RunPlan
from wan_runtime.planner.verdict import Verdict

FineTune = Document[WanFineTuneSpec]


@dataclass(frozen=True, slots=True)
class Planned:
    """A WanFineTune on one type of GPU; without a plan if it is of a Tiny preset."""

    finetune: FineTune
    plan: RunPlan | None
    remedies: list[str]
    shortage: str = ""
    """What its pods lack in host memory."""

    @property
    def fits(self) -> bool:
        return self.plan is None or (self.plan.training.fits and not self.shortage)

    @property
    def verdict(self) -> Verdict:
        if self.plan is None:
            return "yes"
        return "no" if self.shortage else self.plan.training.verdict


def planned(finetune: FineTune, gpu: Gpu, catalogue: Sequence[Gpu], clips: int | None) -> Planned:
    spec = finetune.spec
    fault = None if clips is None else warm_up_fault(spec, clips)
    if fault is not None:
        raise DocumentError(f"WanFineTune {finetune.name}: {fault}")
    works = workloads(spec, gpu)
    if not works:
        return Planned(finetune, None, [])
    plan = run_plan(spec, works, gpu, clips)
    if not plan.training.fits:
        return Planned(finetune, plan, helping(spec, works, gpu, catalogue))
    short = shortage(spec, works[0])
    if short is None:
        return Planned(finetune, plan, [])
    return Planned(finetune, plan, short.changes, short.text)


def by_cost(one: Planned) -> tuple[bool, float]:
    assert one.plan is not None
    training = one.plan.training
    assert training.gpu is not None
    return not one.fits, training.seconds_per_step * training.gpu.price_per_hour


# For people


def description(one: Planned) -> str:
    head = f"WanFineTune {one.finetune.name}: "
    if one.plan is None:
        return f"{head}{one.finetune.spec.model.preset} fits everywhere and is not planned"
    plan, training = one.plan, one.plan.training
    gpu = training.gpu
    assert gpu is not None
    low, high = training.gib_range
    each = " of each GPU" if training.work.gpus > 1 else ""
    rows = [
        ("GPU", f"{gpu.name}: {gpu.memory_gib:.1f} GiB, {gpu.price_per_hour:.2f} an hour"),
        ("fits", EXPLAINED[one.verdict]),
        ("memory", f"{training.gib:.1f} GiB ({low:.1f} to {high:.1f}){each}"),
        *term_rows(training.memory, ".1f"),
        ("step", ranged(training.seconds_per_step, training.time_band, "s")),
        *term_rows(training.seconds, ".2f"),
        *_buckets(plan),
        ("run", length(plan)),
        ("confidence", explained(training.confidence)),
    ]
    if one.remedies:
        rows.insert(2, ("fits with", ", or ".join(one.remedies)))
    if one.shortage:
        rows.insert(2, ("host memory", one.shortage))
    return f"{head}{summary(plan)}\n{aligned(rows)}"


def summary(plan: RunPlan, checkpointing: str = "") -> str:
    """`checkpointing`: of all types together; by default the plan's own."""
    work = plan.training.work
    method = f"LoRA of rank {work.rank}" if work.method == "lora" else "full fine-tuning"
    largest = "" if len(plan.buckets) == 1 else f", the largest of {len(plan.buckets)} buckets"
    method += ", both experts in one Job" if work.experts > 1 else ""
    return (
        f"{work.preset}, {method}, {work.frames} frames of {work.width}x{work.height} "
        f"({work.tokens:,} tokens{largest}), gradientCheckpointing "
        f"{checkpointing or work.checkpointing}"
        f"{_gpus(work.spread)}"
    )


def _gpus(spread: Parallelism) -> str:
    """Words for the GPUs that train one transformer; none for one alone."""
    if spread == Parallelism():
        return ""
    gpus = f"{spread.gpus_per_node} GPU{'' if spread.gpus_per_node == 1 else 's'}"
    text = f"; {gpus}" if spread.nodes == 1 else f"; {spread.nodes} nodes with {gpus} each"
    text += f", {spread.sequence} for each clip" if spread.sequence > 1 else ""
    text += f", ZeRO {spread.zero_stage}" if spread.zero_stage else ""
    return text + (f", {spread.offload} in host memory" if spread.offload != "None" else "")


def _buckets(plan: RunPlan) -> list[tuple[str, str]]:
    """None if there is but one. Which has how many clips is not known here: the run is planned as
    if all were of the largest."""
    if len(plan.buckets) == 1:
        return []
    rows = [("buckets", "hours and cost are as if all clips were of the largest")]
    for each in plan.buckets:
        work = each.work
        text = f"{work.tokens:,} tokens, {each.gib:.1f} GiB, {each.seconds_per_step:.1f} s a step"
        rows.append((f"  {work.width}x{work.height}x{work.frames}", text))
    return rows


def length(plan: RunPlan) -> str:
    hours, cost = plan.hours, plan.cost
    if hours is None or cost is None:
        return "unknown: say how many clips with --clips, or set training.steps"
    together = " at once" if plan.at_once > 1 else ""
    experts = f"{plan.experts} experts{together} x " if plan.experts > 1 else ""
    sampling = plan.sample_seconds / 3600
    samples = f" of which {sampling:.1f} h render videos," if sampling else ""
    return (
        f"{experts}{plan.steps:,} steps: {ranged(hours, plan.time_band, 'h')},{samples} "
        f"costs {money(cost)}; encoding not counted"
    )


def comparison(compared: Sequence[Planned]) -> str:
    first = compared[0]
    if first.plan is None:
        return description(first)
    policies = {one.plan.training.work.checkpointing for one in compared if one.plan is not None}
    chosen = policies.pop() if len(policies) == 1 else "Auto"
    head = f"WanFineTune {first.finetune.name}: {summary(first.plan, chosen)}\n"
    rows = [("GPU", "HAS", "NEEDS", "FITS", "S/STEP", "HOURS", "COST", "TIME IS")]
    for one in compared:
        plan = one.plan
        assert plan is not None
        training, gpu = plan.training, plan.training.gpu
        assert gpu is not None
        rows.append(
            (
                gpu.name,
                f"{gpu.memory_gib:.1f}",
                f"{training.gib:.1f}",
                one.verdict,
                f"{training.seconds_per_step:.1f}",
                "?" if plan.hours is None else f"{plan.hours:.1f}",
                "?" if plan.cost is None else money(plan.cost),
                f"{training.confidence} ±{plan.time_band:.0%}",
            )
        )
    return head + aligned(rows)


# For programs


def as_json(one: Planned) -> dict[str, Any]:
    if one.plan is None:
        preset = one.finetune.spec.model.preset
        return {"kind": "WanFineTune", "name": one.finetune.name, "preset": preset, "fits": "yes"}
    plan, training = one.plan, one.plan.training
    work, gpu = training.work, training.gpu
    assert gpu is not None
    return {
        "kind": "WanFineTune",
        "name": one.finetune.name,
        "preset": work.preset,
        "method": work.method,
        "frames": work.frames,
        "width": work.width,
        "height": work.height,
        "tokens": work.tokens,
        "buckets": [
            {
                "width": each.work.width,
                "height": each.work.height,
                "frames": each.work.frames,
                "gpuGib": rounded(each.gib),
                "secondsPerStep": rounded(each.seconds_per_step),
            }
            for each in plan.buckets
        ],
        "gradientCheckpointing": work.checkpointing,
        "parallelism": work.spread.model_dump(mode="json", by_alias=True),
        "gpu": gpu.name,
        "fits": one.verdict,
        "fitsWith": one.remedies,
        "gpuGib": rounded(training.gib),
        "gpuGibRange": [rounded(each) for each in training.gib_range],
        "gpuGibTerms": {name: rounded(value) for name, value in training.memory.items()},
        "secondsPerStep": rounded(training.seconds_per_step),
        "secondsTerms": {name: rounded(value) for name, value in training.seconds.items()},
        "timeErrorPercent": math.ceil(100 * plan.time_band),
        "experts": plan.experts * work.experts,
        "steps": plan.steps,
        "hours": rounded(plan.hours),
        "cost": rounded(plan.cost),
        "confidence": training.confidence,
    }


# For the registry


FINETUNE = PlannedKind(
    spec=WanFineTuneSpec,
    pod_template=lambda spec: spec.pod_template,
    planned=planned,
    rank=by_cost,
    description=description,
    comparison=comparison,
    as_json=as_json,
)
