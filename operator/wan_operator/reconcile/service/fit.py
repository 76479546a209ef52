"""Whether the videos of a service fit the GPU of its workers.

What cannot fit is not begun: neither the first workers of a service, nor others in place of those
that serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wan_operator.api.v1alpha1.inference import WanInferenceServiceSpec
from wan_operator.reconcile import gpus
from wan_operator.reconcile.service.pod_config import accepted_frames, gpus_of
from wan_operator.reconcile.service.resolve import gpu_of, planned_video, work
from wan_operator.reconcile.service.state import Service
from wan_operator.resources.service.worker import Revision
from wan_operator.settings import Settings
from wan_runtime.contract.service import DEFAULT_PROFILE
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.remedies import serving_remedies
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving
from wan_runtime.presets import PRESETS


def refusal(spec: WanInferenceServiceSpec, settings: Settings) -> str | None:
    """Why no worker must start: the default video, or the largest that requests may ask for, does
    not fit the GPU that is known."""
    gpu = gpu_of(spec, settings)
    if gpu is None or PRESETS[spec.model.preset].tiny:
        return None
    usual, longest = (plan_serving(work(spec, longest=each), gpu) for each in (False, True))
    plan = usual if usual.verdict == "no" else longest
    if plan.verdict != "no":
        return None
    wanted, (low, high) = plan.work, plan.gib_range
    which = "the largest video that spec.limits.frames allows,"
    if plan is usual:
        which = "a video of the default size and length (spec.sizes, spec.defaults),"
    changes = serving_remedies(wanted, gpu, settings.gpu_catalogue)
    return (
        f"{which} of {wanted.width}x{wanted.height} and {wanted.frames} frames, of the model "
        f"{wanted.preset} with the profile {wanted.profile}, needs {plan.gib:.0f} GiB of GPU "
        f"memory ({low:.0f} to {high:.0f}) and {gpu.name} has {gpu.memory_gib:.0f}: "
        f"{gpus.way_out(changes)}"
    )


def refused_change(service: Service) -> str | None:
    """Why the workers that serve stay as they are; None if the spec may be rolled out. Workers that
    were ready have shown that what they were planned for fits, whatever the planner says now."""
    spec, settings, status = service.spec, service.settings, service.status
    serving = service.revision(status.revision)
    if serving is None:
        return None
    said = refusal(spec, settings)
    has_served = bool(status.sizes or status.startup)
    if said is None or (has_served and _works_of(service, serving) == _works(spec, settings)):
        return None
    return f"the change is not rolled out, and the workers stay at revision {serving.name}: {said}"


_Facts = tuple[Gpu | None, Sequence[Serving]]


def _works(spec: WanInferenceServiceSpec, settings: Settings) -> _Facts:
    """On what memory depends: the GPU, and the default and the largest video."""
    videos = (work(spec, longest=each) for each in (False, True))
    return gpu_of(spec, settings), [replace(each, steps=1, computed=1) for each in videos]


def _works_of(service: Service, serving: Revision) -> _Facts:
    """Likewise, of workers that are there."""
    spec = serving.spec
    gpu, count = gpus_of(serving, service.settings)
    videos = [
        planned_video(
            preset=PRESETS[spec.model.preset],
            sampling=spec.defaults,
            sizes=spec.sizes,
            frames=frames,
            profile=spec.profile or DEFAULT_PROFILE,
            policy=spec.policy,
            gpus=count,
        )
        for frames in (None, accepted_frames(service))
    ]
    return gpu, [replace(each, steps=1, computed=1) for each in videos]
