"""What the planner makes of an evaluation: whether its videos fit the GPU, and what they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wan_operator.api.v1alpha1.evaluation import WanEvaluationSpec
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate, EffectiveEvaluation
from wan_operator.reconcile.gpus import gpu_of, is_fit_checked, way_out
from wan_operator.reconcile.observed import Raw
from wan_operator.settings import Settings
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.evaluation import DEFAULT_FLOOR, FloorRender
from wan_runtime.contract.sampling import (
    DEFAULT_PROFILE,
    DEFAULT_STEP_CACHE,
    Profile,
    StepCachePolicy,
    computed_steps,
)
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.host import HostPlan, plan_worker
from wan_runtime.planner.remedies import serving_remedies
from wan_runtime.planner.scoring import seconds_per_video
from wan_runtime.planner.serving import ServingPlan, plan_serving
from wan_runtime.planner.workload import GIB, Serving
from wan_runtime.presets import PRESETS

HOUR = 3600


def planned(
    spec: WanEvaluationSpec, effective: EffectiveEvaluation, settings: Settings
) -> EffectiveEvaluation:
    """With the plan of each candidate, and of all together."""
    gpu = gpu_of(spec.pod_template, settings.default_gpu, settings.gpu_catalogue)
    if gpu is None:
        return effective
    return with_plans(spec, effective, gpu)


def with_plans(
    spec: WanEvaluationSpec, effective: EffectiveEvaluation, gpu: Gpu
) -> EffectiveEvaluation:
    """The same, on this type of GPU."""
    size = size_of(effective)
    candidates, seconds = [], scoring_seconds(spec, size, effective.candidates)
    for each in effective.candidates:
        plan = plan_of(spec, size, each, gpu)
        if plan is None:
            candidates.append(each)
            continue
        seconds += plan.seconds_per_clip * videos_of(spec, each)
        gib, took = round(plan.gib, 1), round(plan.seconds_per_clip, 1)
        candidates.append(each.model_copy(update={"gpu_gib": gib, "seconds_per_video": took}))
    price = gpu.price_per_hour if spec.price_per_gpu_hour is None else spec.price_per_gpu_hour
    hours = seconds / HOUR
    return effective.model_copy(
        update={
            "candidates": candidates,
            "gpu": gpu.name,
            "gpu_hours": round(hours, 2) if seconds else None,
            "cost": round(hours * price, 2) if seconds else None,
        }
    )


def scoring_seconds(
    spec: WanEvaluationSpec, size: Bucket, candidates: Sequence[EffectiveCandidate]
) -> float:
    """GPU-seconds of the pods that measure; 0 if they have no GPU."""
    if not spec.score_on_gpu:
        return 0.0
    videos = sum(videos_of(spec, each) for each in candidates)
    return videos * seconds_per_video(spec.metrics, size)


def videos_of(spec: WanEvaluationSpec, candidate: EffectiveCandidate) -> int:
    """Number of videos of a candidate, if there are as many clips as the spec allows."""
    again = len(floor_renders(spec)) if spec.noise_floor == candidate.name else 0
    return (1 + again) * spec.clips.count


def floor_renders(spec: WanEvaluationSpec) -> Sequence[FloorRender]:
    """Renders of the noise floor, of the candidate that has one."""
    return spec.noise_floor_renders or DEFAULT_FLOOR


def refusal(
    cr: Raw, spec: WanEvaluationSpec, effective: EffectiveEvaluation, settings: Settings
) -> str | None:
    """Why the evaluation must not begin: the videos of a candidate do not fit the GPU."""
    gpu = gpu_of(spec.pod_template, settings.default_gpu, settings.gpu_catalogue)
    if gpu is None or not is_fit_checked(cr):
        return None
    size = size_of(effective)
    for each in effective.candidates:
        plan = plan_of(spec, size, each, gpu)
        if plan is not None and plan.verdict == "no":
            changes = serving_remedies(plan.work, gpu, settings.gpu_catalogue)
            low, high = plan.gib_range
            return (
                f"a video of candidate {each.name} of {size.width}x{size.height} and "
                f"{size.frames} frames needs {plan.gib:.0f} GiB of GPU memory ({low:.0f} to "
                f"{high:.0f}) and {gpu.name} has {gpu.memory_gib:.0f}: {way_out(changes)}"
            )
    return None


def size_of(effective: EffectiveEvaluation) -> Bucket:
    """Size and length of all videos."""
    return Bucket(width=effective.width, height=effective.height, frames=effective.frames)


def plan_of(
    spec: WanEvaluationSpec, size: Bucket, candidate: EffectiveCandidate, gpu: Gpu
) -> ServingPlan | None:
    """Plan of one video, of the render that needs the most memory; None where nothing is rendered,
    and for a Tiny preset, which fits everywhere."""
    work = workload(spec, size, candidate)
    if work is None:
        return None
    works = [work]
    if spec.noise_floor == candidate.name and "OtherKernels" in floor_renders(spec):
        # Exact and Lossless, of which one streams its weights or keeps all on the GPU.
        works.append(replace(work, profile="Lossless" if work.profile == "Exact" else "Exact"))
    return max((plan_serving(each, gpu) for each in works), key=lambda each: each.gib)


def host_plan(
    spec: WanEvaluationSpec,
    effective: EffectiveEvaluation,
    candidate: EffectiveCandidate,
    settings: Settings,
) -> HostPlan | None:
    """What the pod that renders a candidate takes of its node; None as above."""
    work = workload(spec, size_of(effective), candidate)
    if work is None:
        return None
    plan = plan_worker(work, fetches_model=bool(candidate.s3) and not settings.model_cache)
    if candidate.method != "Full":
        return plan
    experts = len(PRESETS[candidate.preset].experts)
    weights = 2.0 * work.architecture.parameters * experts / GIB
    return replace(plan, scratch={**plan.scratch, "trained weights": weights})


def workload(
    spec: WanEvaluationSpec, size: Bucket, candidate: EffectiveCandidate
) -> Serving | None:
    """One video of a candidate. Raises ValueError with the field for a size that Wan cannot hold,
    which the API server refuses."""
    if not candidate.preset or PRESETS[candidate.preset].tiny:
        return None
    preset, sampling = PRESETS[candidate.preset], spec.sampling
    guidance = preset.guidance if sampling.guidance is None else sampling.guidance
    low = guidance if sampling.guidance_low is None else sampling.guidance_low
    profile, policy = rendered_by(spec, candidate)
    steps = sampling.steps or preset.inference_steps
    return Serving(
        preset=preset.name,
        frames=size.frames,
        width=size.width,
        height=size.height,
        steps=steps,
        computed=computed_steps(profile, steps, policy),
        guided=guidance != 1.0 or low != 1.0,
        profile=profile,
    )


def rendered_by(
    spec: WanEvaluationSpec, candidate: EffectiveCandidate
) -> tuple[Profile, StepCachePolicy]:
    """Arithmetic of a candidate, and the rule by which its steps are left out."""
    named = next(each for each in spec.candidates if each.name == candidate.name)
    given = named.acceleration
    if given is None:
        return DEFAULT_PROFILE, DEFAULT_STEP_CACHE
    return given.profile, given.step_cache or DEFAULT_STEP_CACHE
