"""What the work of an evaluation refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from wan_runtime.contract.evaluation import EvaluationWork
from wan_runtime.faults import described


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": ["reference", "ours"]}, "no candidate may be called reference"),
        ({"ratings": {"raters": ["ann", "bob", "ann"]}}, "two raters have the name ann"),
        ({"ratings": {"raters": [""]}}, "ratings.raters[0]: must have at least 1 characters"),
    ],
)
def test_names_that_would_be_mixed_up(change: dict[str, Any], said: str) -> None:
    names = change.pop("names", ["base", "ours"])
    work = {
        "candidates": [{"name": name, "videos": "s3://wan/videos"} for name in names],
        "clips": {"held_out": {"uri": "s3://wan/held-out", "sha256": "0" * 64}},
        "metrics": ["psnr"],
        **change,
    }
    with pytest.raises(ValidationError) as error:
        EvaluationWork.model_validate(work)
    assert said in described(error.value)
