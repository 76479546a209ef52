"""What earlier steps of a run have committed, as a job file hands it on: by step id in `inputs`.

Functions raise KeyError for a step whose result the job has not been given.
"""

from __future__ import annotations

from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.steps import Expert, Step, step_id


def prepared(job: JobSpec) -> ManifestRef:
    """The dataset: its clips, checked and split."""
    return job.inputs[step_id(Step.PREPARE)]


def imported(job: JobSpec) -> ManifestRef | None:
    """The base model, if it was imported. A job is handed one import: that of its model."""
    return next(iter(_all(job, Step.IMPORT)), None)


def collected(job: JobSpec) -> ManifestRef:
    """The clips that candidates are compared on."""
    return job.inputs[step_id(Step.COLLECT)]


def generated(job: JobSpec) -> list[ManifestRef]:
    """The videos of all candidates, in parts where generation was split."""
    return _all(job, Step.GENERATE)


def scored(job: JobSpec) -> list[ManifestRef]:
    """What was measured, in parts where scoring was split."""
    return _all(job, Step.SCORE)


def rated(job: JobSpec) -> ManifestRef | None:
    """What people said; None if nobody was asked."""
    return job.inputs.get(step_id(Step.RATE))


def encoded(job: JobSpec) -> ManifestRef:
    """The list of latents of all clips."""
    return job.inputs[step_id(Step.ENCODE)]


def encoded_parts(job: JobSpec) -> list[ManifestRef]:
    """The lists of latents of the parts that this encode step gathers; none if it takes all clips
    itself or is a part."""
    if job.shard is not None:
        return []
    return [ref for name, ref in job.inputs.items() if name.startswith(f"{Step.ENCODE}-part")]


def training_id(expert: Expert) -> str:
    """Id of the step that trains an expert alone."""
    return step_id(Step.TRAIN, expert)


def trained(job: JobSpec) -> dict[Expert, ManifestRef]:
    """What each train step committed, by its expert, in the order of sampling. ONLY for a pair: it
    trained both."""
    ids = {expert: training_id(expert) for expert in Expert}
    return {expert: job.inputs[id] for expert, id in ids.items() if id in job.inputs}


def exported(job: JobSpec) -> ManifestRef:
    """The trained weights in the formats of their users."""
    return job.inputs[step_id(Step.EXPORT)]


def _all(job: JobSpec, step: Step) -> list[ManifestRef]:
    """Results of a step for all candidates and parts, by the order of their names."""
    return [ref for name, ref in sorted(job.inputs.items()) if name.split("-", 1)[0] == str(step)]
