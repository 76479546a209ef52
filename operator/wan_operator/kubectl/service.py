"""A WanInferenceService, planned: memory, seconds and cost of a video. Offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wan_operator.api.v1alpha1.inference import WanInferenceServiceSpec
from wan_operator.kubectl.kind import Document, PlannedKind
from wan_operator.kubectl.table import aligned
from wan_operator.kubectl.words import (
    EXPLAINED,
    explained,
    ranged,
    rounded,
    steps_of,
    term_rows,
)
from wan_operator.reconcile.service.resolve import drain_seconds, pod_size, work
from wan_operator.resources.jobs import Size
from wan_operator.settings import Settings
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.host import HostPlan, plan_worker
from wan_runtime.planner.remedies import serving_remedies
from wan_runtime.planner.serving import ServingPlan, plan_serving
from wan_runtime.presets import PRESETS

OFFLINE = Settings(runtime_image="offline", operator_image="offline", namespace="offline")
"""No setting that a plan reads but those of a cluster without a model cache."""
HOUR = 3600

Service = Document[WanInferenceServiceSpec]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Plan of one worker on one type of GPU."""

    usual: ServingPlan
    """A video of the default size and length."""
    longest: ServingPlan
    """The largest that may be work for."""
    host: HostPlan
    pod: Size
    """Resources that a worker's pod requests."""
    drain_seconds: int
    price_per_hour: float
    remedies: list[str]
    """For a video of the default size and length; empty if it fits."""
    longest_remedies: list[str]

    @property
    def videos_per_hour(self) -> float:
        return HOUR / self.usual.seconds_per_clip

    def cost(self, plan: ServingPlan) -> float:
        """Cost of a video."""
        return plan.seconds_per_clip / HOUR * self.price_per_hour


@dataclass(frozen=True, slots=True)
class PlannedService:
    """Without a plan if it is of a Tiny preset."""

    service: Service
    plan: ServicePlan | None

    @property
    def fits(self) -> bool:
        """A video of the default size and length does, and no larger one is refused."""
        plan = self.plan
        return plan is None or (plan.usual.fits and plan.longest.verdict != "no")


def planned(
    service: Service, gpu: Gpu, catalogue: Sequence[Gpu], _clips: int | None
) -> PlannedService:
    spec = service.spec
    if PRESETS[spec.model.preset].tiny:
        return PlannedService(service, None)
    wanted, longest = work(spec), work(spec, longest=True)
    usual, largest = plan_serving(wanted, gpu), plan_serving(longest, gpu)
    source = spec.model.source
    price = spec.price_per_hour
    plan = ServicePlan(
        usual=usual,
        longest=largest,
        host=plan_worker(longest, fetches_model=source is not None and source.s3 is not None),
        pod=pod_size(spec, OFFLINE),
        drain_seconds=spec.workers.drain_seconds or drain_seconds(spec, gpu),
        price_per_hour=gpu.price_per_hour * wanted.gpus if price is None else price,
        remedies=[] if usual.fits else serving_remedies(wanted, gpu, catalogue),
        longest_remedies=[] if largest.fits else serving_remedies(longest, gpu, catalogue),
    )
    return PlannedService(service, plan)


def by_cost(one: PlannedService) -> tuple[bool, float]:
    assert one.plan is not None
    return not one.fits, one.plan.cost(one.plan.usual)


# For people


def description(one: PlannedService) -> str:
    head = f"WanInferenceService {one.service.name}: "
    plan = one.plan
    if plan is None:
        return f"{head}{one.service.spec.model.preset} fits everywhere and is not planned"
    gpu, usual = plan.usual.gpu, plan.usual
    low, high = usual.gib_range
    size = plan.pod
    rows = [
        ("GPU", f"{gpu.name}: {gpu.memory_gib:.1f} GiB, {gpu.price_per_hour:.2f} an hour"),
        ("fits", EXPLAINED[usual.verdict]),
        *_fits_with(plan.remedies),
        ("memory", f"{usual.gib:.1f} GiB ({low:.1f} to {high:.1f})"),
        *term_rows(usual.memory, ".1f"),
        ("video", ranged(usual.seconds_per_clip, usual.time_band, "s")),
        *term_rows(usual.seconds, ".2f"),
        ("longest", _longest(plan)),
        *_fits_with(plan.longest_remedies),
        ("worker", f"{plan.videos_per_hour:.1f} videos an hour, {plan.price_per_hour:.2f} an hour"),
        ("cost", f"{plan.cost(usual):.2f} a video"),
        ("host memory", f"{plan.host.gib:.1f} GiB: the pod asks for {size.memory}"),
        *term_rows(plan.host.memory, ".1f"),
        ("scratch", f"{plan.host.scratch_gib:.1f} GiB: the pod asks for {size.cache}"),
        *term_rows(plan.host.scratch, ".1f"),
        ("drain", f"{plan.drain_seconds} s at most to finish a video after SIGTERM"),
        ("from zero", "unknown until a worker has started: status.startup then has it"),
        ("confidence", explained(usual.confidence)),
    ]
    return f"{head}{summary(usual)}\n{aligned(rows)}"


def summary(plan: ServingPlan) -> str:
    video = plan.work
    guided = "guided" if video.guided else "not guided"
    together = "" if video.gpus == 1 else f", {video.gpus} GPUs a worker"
    return (
        f"{video.preset}, {video.frames} frames of {video.width}x{video.height} "
        f"({video.tokens:,} tokens), {steps_of(video)}, {guided}{together}"
    )


def _fits_with(changes: Sequence[str]) -> list[tuple[str, str]]:
    return [("  fits with", ", or ".join(changes))] if changes else []


def _longest(plan: ServicePlan) -> str:
    longest = plan.longest
    video = longest.work
    fits = "" if longest.verdict == "yes" else f", fits: {longest.verdict}"
    return (
        f"{video.frames} frames of {video.width}x{video.height}: {longest.gib:.1f} GiB{fits}, "
        f"{ranged(longest.seconds_per_clip, longest.time_band, 's')}, "
        f"costs {plan.cost(longest):.2f}"
    )


def comparison(compared: Sequence[PlannedService]) -> str:
    first = compared[0]
    if first.plan is None:
        return description(first)
    head = f"WanInferenceService {first.service.name}: {summary(first.plan.usual)}\n"
    rows = [("GPU", "HAS", "NEEDS", "FITS", "LONGEST", "S/VIDEO", "VIDEOS/H", "COST", "TIME IS")]
    for one in compared:
        plan = one.plan
        assert plan is not None
        usual = plan.usual
        rows.append(
            (
                usual.gpu.name,
                f"{usual.gpu.memory_gib:.1f}",
                f"{usual.gib:.1f}",
                usual.verdict,
                plan.longest.verdict,
                f"{usual.seconds_per_clip:.0f}",
                f"{plan.videos_per_hour:.1f}",
                f"{plan.cost(usual):.2f}",
                f"{usual.confidence} ±{usual.time_band:.0%}",
            )
        )
    return head + aligned(rows)


# For programs


def as_json(one: PlannedService) -> dict[str, Any]:
    spec, plan = one.service.spec, one.plan
    named = {"kind": "WanInferenceService", "name": one.service.name, "preset": spec.model.preset}
    if plan is None:
        return {**named, "fits": "yes"}
    usual = plan.usual
    return {
        **named,
        "gpu": usual.gpu.name,
        "gpus": usual.work.gpus,
        "fits": usual.verdict,
        "fitsWith": plan.remedies,
        **_video(plan, usual),
        "gpuGibRange": [rounded(each) for each in usual.gib_range],
        "gpuGibTerms": {name: rounded(value) for name, value in usual.memory.items()},
        "secondsTerms": {name: rounded(value) for name, value in usual.seconds.items()},
        "timeErrorPercent": math.ceil(100 * usual.time_band),
        "videosPerHour": rounded(plan.videos_per_hour),
        "longest": {
            "fits": plan.longest.verdict,
            "fitsWith": plan.longest_remedies,
            **_video(plan, plan.longest),
        },
        "hostGib": rounded(plan.host.gib),
        "hostGibTerms": {name: rounded(value) for name, value in plan.host.memory.items()},
        "scratchGib": rounded(plan.host.scratch_gib),
        "scratchGibTerms": {name: rounded(value) for name, value in plan.host.scratch.items()},
        "drainSeconds": plan.drain_seconds,
        "secondsFromZero": None,
        "confidence": usual.confidence,
    }


def _video(plan: ServicePlan, video: ServingPlan) -> dict[str, Any]:
    return {
        "frames": video.work.frames,
        "width": video.work.width,
        "height": video.work.height,
        "steps": video.work.steps,
        "gpuGib": rounded(video.gib),
        "secondsPerVideo": rounded(video.seconds_per_clip),
        "cost": rounded(plan.cost(video)),
    }


# For the registry


SERVICE = PlannedKind(
    spec=WanInferenceServiceSpec,
    pod_template=lambda spec: spec.workers.pod_template,
    planned=planned,
    rank=by_cost,
    description=description,
    comparison=comparison,
    as_json=as_json,
)
