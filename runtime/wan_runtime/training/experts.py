"""A train step that trains both experts of a pair: the job of each, and what it committed.

Each expert has the job, the place in the store and the results that a train step of its own would
have; the step's own result names both.
"""

from __future__ import annotations

from collections.abc import Mapping

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.results import trained, training_id
from wan_runtime.contract.steps import Expert
from wan_runtime.presets import preset_of

PREFIXES = {Expert.ONLY: "", Expert.HIGH_NOISE: "highNoise.", Expert.LOW_NOISE: "lowNoise."}
"""Beginnings of an expert's numbers among those of both."""


def trains_both(job: JobSpec) -> bool:
    """Whether a train step has both experts of a pair."""
    return len(preset_of(job).experts_of(job.expert)) > 1


def job_of(job: JobSpec, expert: Expert, steps: int | None = None) -> JobSpec:
    """The job of one of both experts, with its number of optimizer steps."""
    work = finetune_of(job)
    start = (work.starts or {}).get(expert)
    training = work.training.model_copy(update={"steps": steps})
    methods = {
        name: spec.model_copy(update={"init_from": start})
        for name, spec in (("lora", work.lora), ("full", work.full))
        if spec is not None
    }
    own = work.model_copy(update={**methods, "starts": None, "training": training})
    return job.model_copy(update={"expert": expert, "work": own})


def prefixes(job: JobSpec) -> list[str]:
    """Key prefixes of what a train step commits of each expert, and keeps until then."""
    experts = preset_of(job).experts_of(job.expert)
    return [job_of(job, expert).output_prefix for expert in experts]


def parts_of(committed: manifest.Manifest, job: JobSpec) -> dict[Expert, ManifestRef]:
    """What a train step of both experts committed of each, from its manifest."""
    found = committed.lineage.inputs
    return {expert: found[training_id(expert)] for expert in preset_of(job).experts}


def weights_of(job: JobSpec, store: Store) -> Mapping[Expert, ManifestRef]:
    """The weights of each expert that the run has trained, in the order of sampling, for a later
    step. Raises ArtifactCorrupt."""
    found = trained(job)
    whole = found.get(Expert.ONLY)
    if whole is None or len(preset_of(job).experts) == 1:
        return found
    return parts_of(manifest.load(store, whole), job)


def trained_experts(job: JobSpec) -> tuple[Expert, ...]:
    """Experts that the run has trained: of a pair, it may be one."""
    preset = preset_of(job)
    return tuple(each for found in trained(job) for each in preset.experts_of(found))
