"""The operator's view of a service, on the wire."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wan_runtime.contract.report import ServiceReport
from wan_runtime.contract.rollout import Rollout


def test_a_report_reads_back() -> None:
    wire = {
        "time": "2026-01-02T03:04:05Z",
        "ageSeconds": 1.5,
        "queue": {
            "queued": 2, "running": 1, "predictedSeconds": 300, "remainingSeconds": 40,
            "oldestSeconds": 12, "lastActivitySeconds": None,
        },
        "workers": [
            {
                "name": "wan-worker-0-1a2b", "pod": "wan-worker-0", "revision": "5f", "ready": True,
                "ranks": 1, "secondsPerClip": {"1280x720": 118.2}, "adapters": ["fairy"],
                "adapterNotes": [
                    {
                        "name": "knight", "ready": False, "reason": "ModelNotFound",
                        "message": "s3://wan/knight does not exist",
                    }
                ],
                "startup": {"loadSeconds": 60, "compileSeconds": 5, "warmUpSeconds": 20},
                "seenSeconds": 0.4,
            }
        ],
        "rollout": {"canary": "6a", "weight": 10},
        "tracks": {
            "stable": {"completed": 9, "failed": 0, "medianSeconds": 118, "p95Seconds": 121},
            "canary": {"completed": 0, "failed": 1, "medianSeconds": None, "p95Seconds": None},
        },
    }  # fmt: skip
    report = ServiceReport.model_validate(wire)
    assert ServiceReport.model_validate_json(report.model_dump_json(by_alias=True)) == report


@pytest.mark.parametrize("wrong", [{"canary": ""}, {"canary": "6a", "weight": 101}, {"weigth": 1}])
def test_a_rollout_is_closed_and_within_bounds(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rollout.model_validate(wrong)
