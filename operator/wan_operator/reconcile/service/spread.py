"""How the GPUs of a worker share a video, as `spec.parallelism` says."""

from __future__ import annotations

from wan_operator.api.v1alpha1.inference import WanInferenceServiceSpec
from wan_runtime.contract.service import ParallelSpec


def parallel_of(spec: WanInferenceServiceSpec) -> ParallelSpec | None:
    """Library by which the GPUs of a worker share a video; None: none."""
    chosen = spec.parallelism
    return None if chosen.backend == "Native" else ParallelSpec(ring=chosen.ring)
