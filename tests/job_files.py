"""JobSpecs for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wan_runtime.contract.earlier import FINE_TUNE
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.steps import Step


def sized(width: int, height: int, frames: int = 17) -> dict[str, int]:
    """As in JSON."""
    return {"width": width, "height": height, "frames": frames}


DATASET = {"source": "s3://wan/data", "buckets": [sized(128, 96)], "fps": 16}


def make_job(**change: Any) -> JobSpec:
    """A tiny job; top-level fields and those of its work as in JSON, those of `dataset` merged."""
    content = {
        "namespace": "team-a",
        "name": "dragons",
        "uid": "0f9e8d7c-0000-4000-8000-000000000000",
        "step": "prepare",
        "model": {"preset": "Wan2.1-I2V-Tiny"},
        "store": {"endpoint": "http://127.0.0.1:1", "bucket": "wan", "prefix": "runs"},
        **{name: value for name, value in change.items() if name not in FINE_TUNE},
    }
    work = {
        "kind": "FineTune",
        **({} if "full" in change else {"lora": {}}),
        **{name: value for name, value in change.items() if name in FINE_TUNE},
        "dataset": {**DATASET, **change.get("dataset", {})},
    }
    is_import = content["step"] == Step.IMPORT
    return JobSpec.model_validate({**content, "work": {"kind": "Import"} if is_import else work})


def earlier(inputs: Mapping[str, ManifestRef], step: Step, *, whole: bool = True) -> dict[str, Any]:
    """Results of the steps before `step`, as the operator hands them on. `whole`: also of its own
    parts."""
    order = list(Step)
    return {
        name: ref.model_dump()
        for name, ref in inputs.items()
        if order.index(Step(name.split("-")[0])) < order.index(step)
        or (whole and name.startswith(f"{step}-part"))
    }
