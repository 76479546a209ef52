"""What the planner makes of a run: what `Auto` becomes, whether it fits its GPU, what its pods ask
for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from wan_operator.api.v1alpha1.finetune import (
    Effective,
    EffectivePlan,
    WanFineTuneSpec,
)
from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.finetune import host
from wan_operator.reconcile.finetune.plan import (
    FineTuneRun,
    FineTuneStep,
    buckets_of,
    experts_of,
    has_begun,
    has_trained,
    prepare_of,
    trains_in_parallel,
    trains_jointly,
)
from wan_operator.reconcile.finetune.spread import parallelism_of, spread_of, stated
from wan_operator.reconcile.finetune.work import checkpointing_of, initial_weights
from wan_operator.reconcile.gpus import gpu_of, is_fit_checked, way_out
from wan_operator.reconcile.observed import Raw
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.steps import FACTS
from wan_runtime.contract.summary import TRAIN_WINDOWS, windows_in
from wan_runtime.contract.training import KEEPING, Checkpointing, TrainingSpec
from wan_runtime.planner.bands import ONE_CHIP
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.host import HostPlan, plan_host
from wan_runtime.planner.remedies import fits, remedies
from wan_runtime.planner.run import RunPlan, plan_run
from wan_runtime.planner.steps import checkpoint_interval, joint_steps, total_steps
from wan_runtime.planner.training import TrainingPlan, plan_training
from wan_runtime.planner.workload import Training
from wan_runtime.presets import PRESETS

CHECKPOINT_EVERY = 100
"""Steps. An adapter's checkpoint takes seconds."""
UNCOUNTED_CLIPS = 1000
"""Room for so many, where a run does not know its number."""


def planned(run: FineTuneRun, effective: Effective, steps: Sequence[StepStatus]) -> Effective:
    """With the plan and what it decides. What was decided when the run began stays, while its
    parallelism is not edited: the catalogue may change under it."""
    spec, gpu = run.spec, _gpu(run)
    works = workloads(spec, gpu, _begun(run))
    spread = works[0].spread if works else spread_of(spec, None, gpu, _begun(run))
    plan = None
    if works:
        plan = run_plan(spec, works, gpu, clips_of(steps), counts_of(spec, steps))
    return effective.model_copy(
        update={
            "gradient_checkpointing": checkpointing(spec, works, gpu, _begun(run)),
            "checkpoint_every_steps": checkpoint_every(spec, plan, _begun(run)),
            "parallelism": stated(spread),
            "plan": None if plan is None else effective_plan(plan),
        }
    )


def refusal(cr: Raw, run: FineTuneRun) -> str | None:
    """Why the run must not start. Only before its first pod: what runs has shown that it fits."""
    gpu, catalogue = _gpu(run), run.settings.gpu_catalogue
    works = workloads(run.spec, gpu, _begun(run))
    if not is_fit_checked(cr) or has_begun(run) or not works:
        return None
    # Of an unknown GPU only this is known: it is none that nobody has.
    candidates = [gpu] if gpu is not None else list(catalogue)
    plans = [plan_training(works[0], each) for each in candidates]
    if any(plan.verdict != "no" for plan in plans):
        short = host.shortage(run.spec, works[0])
        return None if short is None else short.refusal
    largest = max(plans, key=_memory)
    assert largest.gpu is not None
    named = f"the largest type of the catalogue, {largest.gpu.name}," if gpu is None else gpu.name
    return _refusal(run.spec, largest, works[1:], named, catalogue)


def refused_edit(cr: Raw, run: FineTuneRun) -> str | None:
    """Why training must not go on with `parallelism` as it was edited since it began: it holds the
    run no more."""
    gpu, begun = _gpu(run), _begun(run)
    if gpu is None or begun is None or not is_fit_checked(cr) or has_trained(run):
        return None
    works = workloads(run.spec, gpu, begun)
    if not works or works[0].spread == parallelism_of(begun):
        return None
    plan = plan_training(works[0], gpu)
    if plan.verdict != "no":
        return None
    return _refusal(run.spec, plan, works[1:], gpu.name, run.settings.gpu_catalogue)


def as_begun(run: FineTuneRun, effective: Effective) -> Effective:
    """With the plan and what it decided when the run began."""
    begun = _begun(run)
    assert begun is not None
    fields = ("gpus", "gradient_checkpointing", "checkpoint_every_steps", "parallelism", "plan")
    return effective.model_copy(update={name: getattr(begun, name) for name in fields})


def long_warm_up(run: FineTuneRun) -> str | None:
    """Why a run must not train whose clips are counted: the number of its steps follows from them,
    and its warm-up takes more. Only before its first step with a GPU."""
    clips = clips_of(run.status.steps)
    if clips is None or not run.is_before_gpus:
        return None
    return warm_up_fault(run.spec, clips)


def _refusal(
    spec: WanFineTuneSpec,
    plan: TrainingPlan,
    smaller: Sequence[Training],
    named: str,
    catalogue: Sequence[Gpu],
) -> str:
    assert plan.gpu is not None
    low, high = plan.gib_range
    changes = helping(spec, (plan.work, *smaller), plan.gpu, catalogue)
    work, needed = plan.work, "training needs"
    if smaller:
        needed = f"training in the bucket {work.width}x{work.height}x{work.frames} needs"
    return (
        f"{needed} {plan.gib:.0f} GiB of GPU memory ({low:.0f} to {high:.0f}) and "
        f"{named} has {plan.gpu.memory_gib:.0f}: {way_out(changes)}"
    )


def helping(
    spec: WanFineTuneSpec, works: Sequence[Training], gpu: Gpu, catalogue: Sequence[Gpu]
) -> list[str]:
    """Changes of which each alone makes a run fit whose buckets do not, the largest first."""
    found = remedies(
        works[0],
        gpu,
        catalogue,
        works[1:],
        settle=partial(settled, spec),
        has_room=partial(host.may_have_room, spec),
    )
    offloaded = settled(host.unlimited(spec), works, gpu)
    return [*host.enough(offloaded[0]), *found] if fits(offloaded, gpu) else found


def _memory(plan: TrainingPlan) -> float:
    return plan.gpu.memory_gib if plan.gpu is not None else math.inf


def host_plan(run: FineTuneRun, step: FineTuneStep) -> HostPlan | None:
    """What the pod of a step that holds weights takes of its node; None for the others and for Tiny
    presets."""
    works = workloads(run.spec, _gpu(run), _begun(run))
    if not works or not FACTS[step.step].holds_weights or step.gathers:
        return None
    spec, effective = run.spec, run.status.effective
    source, shared = spec.model.source, bool(run.settings.model_cache)
    clips = clips_of(run.status.steps)
    return plan_host(
        works[0],
        step.step,
        fetches_model=(
            step.needs_gpu and source is not None and source.s3 is not None and not shared
        ),
        previews=spec.validation.preview_every_steps is not None,
        formats=len(effective.formats) if effective is not None else 1,
        clips=UNCOUNTED_CLIPS if clips is None else clips,
        starts_from=initial_weights(run.spec, step.expert) is not None,
    )


# Of a spec alone, for the operator and for `kubectl wan plan`


def workloads(
    spec: WanFineTuneSpec, gpu: Gpu | None, begun: Effective | None = None
) -> tuple[Training, ...]:
    """One train step of the run for each of its buckets, the largest first; none for a Tiny preset,
    which fits everywhere.

    Raises ValueError with the field for a size that Wan cannot hold, which the API server refuses.
    """
    if PRESETS[spec.model.preset].tiny:
        return ()
    works = tuple(workload(spec, bucket) for bucket in buckets_of(spec))
    # How they are spread first: with more GPUs for a clip, its blocks may keep more.
    spread = spread_of(spec, works[0], gpu, begun)
    works = tuple(replace(work, spread=spread) for work in works)
    return settled(spec, works, gpu, begun)


def settled(
    spec: WanFineTuneSpec,
    works: Sequence[Training],
    gpu: Gpu | None,
    begun: Effective | None = None,
) -> tuple[Training, ...]:
    """The buckets, the largest first, with their checkpointing."""
    chosen = checkpointing(spec, works, gpu, begun)
    return tuple(replace(work, checkpointing=chosen) for work in works)


def warm_up_fault(spec: WanFineTuneSpec, clips: int) -> str | None:
    """Why a run must not train on so many windows of clips: its warm-up takes more steps."""
    steps, warm_up = steps_for(spec, clips), spec.training.schedule.warmup_steps
    has = "the run has"
    if trains_jointly(spec) and steps > 1:
        has = "an expert of the run has"
        steps = min(joint_steps(PRESETS[spec.model.preset], steps).values())
    if warm_up <= steps:
        return None
    return (
        f"spec.training.schedule.warmupSteps is {warm_up}, more than the {steps} that {has} "
        f"with its epochs and training windows ({clips}): the learning rate would never be "
        "reached. Set fewer warm-up steps, or more epochs"
    )


def workload(spec: WanFineTuneSpec, bucket: Bucket) -> Training:
    training, lora = spec.training, spec.method.lora
    work = Training(
        preset=spec.model.preset,
        frames=bucket.frames,
        width=bucket.width,
        height=bucket.height,
        batch=training.batch_size,
        accumulation=training.gradient_accumulation,
        precision=training.base_precision,
        deterministic=training.deterministic,
        experts=len(experts_of(spec)) if trains_jointly(spec) else 1,
    )
    if lora is None:
        return replace(work, method="full")
    ema = training.ema is not None
    return replace(work, rank=lora.rank, targets=tuple(lora.target_modules), ema=ema)


def checkpointing(
    spec: WanFineTuneSpec, works: Sequence[Training], gpu: Gpu | None, begun: Effective | None
) -> Checkpointing:
    """The policy of the spec. `Auto` is the fastest that surely fits, else Full; chosen anew for
    other GPUs than the run began on."""
    policy = spec.training.gradient_checkpointing
    if policy != "Auto":
        return policy
    if begun is not None and (not works or parallelism_of(begun) == works[0].spread):
        return checkpointing_of(begun)
    if not works:
        return "None"
    if gpu is None:
        return "Full"
    choices: list[Checkpointing] = ["None"]
    if gpu.name in ONE_CHIP and may_keep_attention(spec) and works[0].spread.zero_stage < 3:
        choices += KEEPING

    def surely_fits(choice: Checkpointing) -> bool:
        work = replace(works[0], checkpointing=choice)
        return plan_training(work, gpu).verdict == "yes" and host.has_room(spec, work)

    return next(filter(surely_fits, choices), "Full")


def may_keep_attention(spec: WanFineTuneSpec) -> bool:
    """Whether KeepAttention and Offload can train it."""
    lora = spec.method.lora
    return lora is not None and not lora.dropout_percent


def checkpoint_every(spec: WanFineTuneSpec, plan: RunPlan | None, begun: Effective | None) -> int:
    """The number of the spec; else, for full fine-tuning, as often as costs little."""
    if spec.checkpoint.every_steps is not None:
        return spec.checkpoint.every_steps
    if begun is not None:
        return begun.checkpoint_every_steps
    if plan is None or spec.method.full is None or plan.training.gpu is None:
        return CHECKPOINT_EVERY
    training = plan.training
    saved = training.work.checkpoint_bytes * training.work.experts
    return checkpoint_interval(saved, training.seconds_per_step)


def steps_for(spec: WanFineTuneSpec, clips: int) -> int:
    """Optimizer steps of a train step, with so many windows of clips to train on."""
    training = spec.training
    return total_steps(
        clips,
        steps=training.steps,
        epochs=training.epochs or TrainingSpec().epochs,
        repeat=training.dataset_repeat,
        batch=training.batch_size,
        accumulation=training.gradient_accumulation,
    )


def run_plan(
    spec: WanFineTuneSpec,
    works: Sequence[Training],
    gpu: Gpu | None,
    clips: int | None,
    counts: Sequence[int] = (),
) -> RunPlan:
    """`clips`: that are trained on; None while they are not counted. `counts`: of each bucket."""
    steps = spec.training.steps if clips is None else steps_for(spec, clips)
    experts = 1 if trains_jointly(spec) else len(experts_of(spec))
    return plan_run(
        works[0],
        gpu,
        experts=experts,
        at_once=experts if trains_in_parallel(spec) else 1,
        steps=steps,
        videos=2 * spec.validation.samples,
        preview_every=spec.validation.preview_every_steps,
        inference_steps=spec.validation.inference_steps
        or PRESETS[spec.model.preset].inference_steps,
        smaller=works[1:],
        counts=counts,
    )


# Into and out of the status


def effective_plan(plan: RunPlan) -> EffectivePlan:
    training = plan.training
    known = training.gpu is not None
    return EffectivePlan(
        gpu=training.gpu.name if training.gpu is not None else "",
        gpu_gib=round(training.gib, 1),
        gpu_error_percent=math.ceil(100 * training.memory_band),
        seconds_per_step=round(training.seconds_per_step, 2) if known else None,
        steps=plan.steps,
        hours=None if plan.hours is None else round(plan.hours, 2),
        time_error_percent=math.ceil(100 * plan.time_band) if known else None,
        cost=None if plan.cost is None else round(plan.cost, 2),
        confidence=training.confidence,
    )


def clips_of(steps: Sequence[StepStatus]) -> int | None:
    """Training windows of all clips, as counted by the prepare step; None before."""
    return _counted(steps, TRAIN_WINDOWS)


def counts_of(spec: WanFineTuneSpec, steps: Sequence[StepStatus]) -> list[int]:
    """The same for each bucket, the largest first; empty if there is one, or none is counted."""
    counted = [_counted(steps, windows_in(bucket)) for bucket in buckets_of(spec)]
    return [count for count in counted if count is not None]


def _counted(steps: Sequence[StepStatus], name: str) -> int | None:
    prepare = prepare_of(steps)
    counted = "" if prepare is None else prepare.summary.get(name, "")
    return int(counted) if counted.isdecimal() else None


def _gpu(run: FineTuneRun) -> Gpu | None:
    return gpu_of(run.spec.pod_template, run.settings.default_gpu, run.settings.gpu_catalogue)


def _begun(run: FineTuneRun) -> Effective | None:
    """What was resolved, once the run has begun."""
    return run.status.effective if run.status.start_time is not None else None
