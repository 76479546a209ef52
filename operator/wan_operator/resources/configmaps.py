"""The ConfigMap that carries a step's job file into its pods."""

from __future__ import annotations

from wan_operator.resources.labels import Manifest, Owner, config_map_name, labels, metadata
from wan_runtime.contract.job import JobSpec

JOB_KEY = "job.json"


def job_config_map(owner: Owner, job: JobSpec) -> Manifest:
    text = job.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            owner, config_map_name(owner, job.step_id), labels(owner, job.step_id), text
        ),
        "data": {JOB_KEY: text},
    }
