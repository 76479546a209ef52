"""The CRD of WanEvaluation on a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.apiserver import ApiError
from integration.runs import (
    EVALUATIONS,
    INVALID_EVALUATIONS,
    ROOT,
    Manifest,
    Runs,
    load,
    sent_is_kept,
)
from integration.test_crd_refusals import expectation
from unit.controller.evaluation_world import (
    GATE,
    VERDICT,
    EvaluationWorld,
    exported,
    gated,
)
from wan_operator.api.v1alpha1.evaluation import (
    NAME_LIMIT,
    WanEvaluationSpec,
    WanEvaluationStatus,
)

MINIMAL = ROOT / "examples" / "evaluation-minimal.yaml"
FOUR = ROOT / "examples" / "compare-four.yaml"


def minimal(name: str = "compare", **spec: Any) -> Manifest:
    manifest = load(MINIMAL)
    manifest["metadata"]["name"] = name
    manifest["spec"] |= spec
    return manifest


@pytest.mark.parametrize("example", EVALUATIONS, ids=lambda path: path.stem)
def test_example_is_taken_and_means_the_same_to_models_and_server(
    evaluations: Runs, example: Path
) -> None:
    done = evaluations.kubectl("apply", "--validate=strict", "-f", str(example))
    assert done.stderr == ""
    (name,) = evaluations.names()
    wanted = load(example)["spec"]
    stored = evaluations.server.request("GET", f"{evaluations.path}/{name}")["spec"]
    read = WanEvaluationSpec.model_validate
    assert read(stored) == read(wanted)
    assert sent_is_kept(wanted, stored)


def test_invalid_examples_are_refused(evaluations: Runs) -> None:
    for example in INVALID_EVALUATIONS:
        message, field = expectation(example)
        with pytest.raises(ApiError) as refused:
            evaluations.create(load(example))
        assert refused.value.code == 422, example
        assert field in refused.value.fields, example
        assert message in refused.value.message, example
    assert evaluations.names() == []


def test_invalid_examples_are_wrong_in_one_way_only() -> None:
    sound = minimal()["spec"]
    for example in INVALID_EVALUATIONS:
        spec = load(example)["spec"]
        changed = {key for key in sound | spec if spec.get(key) != sound.get(key)}
        assert len(changed) == 1, example


def test_what_people_say_decides_only_where_they_give_marks(evaluations: Runs) -> None:
    """Pairs have no marks: it would come out after all GPUs and raters have done their work."""
    people = {"raters": ["ann", "bob"]}
    pairs = {**people, "mode": "Pairs"}
    marks: Any = {"thresholds": [{"metric": "subjective", "value": 14}]}
    few: Any = {"thresholds": [{"metric": "subjective", "value": 3.5}]}
    total: Any = {"gate": {"thresholds": [{"metric": "total", "value": 0.5}]}}
    flicker: Any = {"metrics": ["flicker"], "decision": {"metric": "flicker"}}
    in_scores = "with ratings in the mode Scores, subjective"
    wrong: list[tuple[str, Manifest]] = [
        (in_scores, minimal(ratings=pairs, decision={"metric": "subjective"})),
        (in_scores, minimal(ratings=pairs, gate=marks)),
        ("needs the metrics psnr and ssim", minimal(ratings=pairs, metrics=["flicker"])),
        ("needs the metrics psnr and ssim", minimal(**flicker, **total)),
        ("the sum of four marks from 1 to 5", minimal(ratings=people, gate=few)),
    ]
    for message, manifest in wrong:
        with pytest.raises(ApiError, match=message):
            evaluations.create(manifest)
    for name, spec in (
        ("marks", {"ratings": people, "gate": marks}),
        ("pairs", {"ratings": pairs}),
    ):
        evaluations.create(minimal(name, **spec))


def test_other_kernels_are_those_of_lossless_profiles(evaluations: Runs) -> None:
    model = {"preset": "Wan2.1-I2V-Tiny"}
    candidates = [
        {"name": "base", "model": model},
        {"name": "balanced", "model": model, "acceleration": {"profile": "Balanced"}},
    ]
    floor: dict[str, Any] = {"noiseFloorRenders": ["OtherSeed", "OtherKernels"]}
    with pytest.raises(ApiError, match="those of the profiles Exact and Lossless") as refused:
        evaluations.create(minimal(candidates=candidates, noiseFloor="balanced", **floor))
    assert "spec.noiseFloorRenders" in refused.value.fields
    evaluations.create(minimal(candidates=candidates, noiseFloor="base", **floor))


def test_a_name_of_the_limit_is_taken(evaluations: Runs) -> None:
    evaluations.create(minimal("n" * NAME_LIMIT))
    with pytest.raises(ApiError, match=f"at most {NAME_LIMIT} characters"):
        evaluations.create(minimal("n" * (NAME_LIMIT + 1)))


RATINGS = {"raters": ["ann"]}
FIXED: dict[str, Any] = {
    "candidates": [{"name": "wan21", "model": {"preset": "Wan2.1-I2V-Tiny"}}],
    "clips": {"count": 9},
    "sampling": {"steps": 3},
    "seed": 1,
    "metrics": ["psnr", "ssim"],
    "metricWeights": "s3://wan/weights",
    "scoreOnGpu": True,
    "legacyPsnr": True,
    "noiseFloor": "wan21",
    "noiseFloorRenders": ["OtherKernels"],
    "decision": {"level": 0.9},
    "gate": GATE,
    "pricePerGpuHour": 2,
    "parallelism": {"generate": 2},
    "store": {"bucket": "other"},
    "ratings": {"raters": ["bob"]},
}
FREE: dict[str, Any] = {
    "suspend": True,
    "retries": {"infrastructure": 0},
    "resources": {"memory": "8Gi"},
    "podTemplate": {"nodeSelector": {"disk": "fast"}},
    "activeDeadlineSeconds": 3600,
    "ttlSecondsAfterFinished": 60,
    "ratings": {"deadlineSeconds": 3600},
}


def test_what_shapes_the_result_is_fixed_once_it_has_begun(evaluations: Runs) -> None:
    evaluations.create(minimal(ratings=RATINGS))
    begun = {"status": {"comparingSince": "2026-01-01T00:00:00Z"}}
    evaluations.patch("compare", begun, "/status")
    for field, value in FIXED.items():
        with pytest.raises(ApiError, match="is fixed once candidates are at work") as refused:
            evaluations.patch("compare", {"spec": {field: value}})
        assert any(each.startswith(f"spec.{field}") for each in refused.value.fields), field
    with pytest.raises(ApiError, match="only deadlineSeconds is not"):
        evaluations.patch("compare", {"spec": {"ratings": None}})
    for field, value in FREE.items():
        assert sent_is_kept(
            value, evaluations.patch("compare", {"spec": {field: value}})["spec"][field]
        )


def test_before_a_candidate_is_at_work_everything_may_be_mended(evaluations: Runs) -> None:
    evaluations.create(minimal(ratings=RATINGS))
    for field, value in FIXED.items():
        evaluations.patch("compare", {"spec": {field: value}})


def finished() -> Manifest:
    """Status of an evaluation that is done, in which every part is set."""
    tuned = {"name": "tuned", "fineTuneRef": {"name": "tune"}}
    base = {
        "name": "base",
        "model": {"preset": "Wan2.1-I2V-14B-480P", "source": {"s3": "s3://m/b"}},
    }
    world = EvaluationWorld(
        candidates=[base, tuned],
        clips={"fineTuneRef": {"name": "tune"}},
        gate=GATE,
        ratings=RATINGS,
        podTemplate={"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}},
        pricePerGpuHour=2,
    )
    world.finetune(**exported())
    world.compare(gated(True))
    status: Manifest = world.status
    return status


UNSET = {"suspended_since", "last_failure"}
"""Fields that a run which is done does not have, or that `finished` has no cause for."""


def test_a_status_survives_the_server(evaluations: Runs) -> None:
    evaluations.create(minimal())
    sent = finished()
    known = WanEvaluationStatus.model_validate(sent)
    unset = {
        name for name in WanEvaluationStatus.model_fields if getattr(known, name) in (None, "")
    }
    assert unset <= UNSET, "set these in finished()"
    patched = evaluations.patch("compare", {"status": sent}, "/status")
    assert patched["status"] == sent, "the schema drops, adds or changes a field of the status"
    assert WanEvaluationStatus.model_validate(sent).gate is not None
    assert "gpuHours" in sent["effective"]


def test_columns(evaluations: Runs) -> None:
    evaluations.create(minimal("done"))
    evaluations.patch("done", {"status": finished()}, "/status")
    head, row = evaluations.kubectl("get", "wev").stdout.splitlines()
    assert head.split() == ["NAME", "STATE", "REASON", "PROGRESS", "WINNER", "GATE", "AGE"]
    assert row.split()[:6] == ["done", "Complete", "Completed", "done", VERDICT.winner, "True"]
    wide = evaluations.kubectl("get", "wan", "-o", "wide").stdout
    assert "s3://wan/compare/report.html" in wide


def test_the_four_way_comparison_is_taken(evaluations: Runs) -> None:
    done = evaluations.kubectl("apply", "--validate=strict", "--dry-run=server", "-f", str(FOUR))
    assert done.stderr == ""
    documents = [*yaml.safe_load_all(FOUR.read_text(encoding="utf-8"))]
    assert done.stdout.count("created") == len(documents)
    (evaluation,) = [each for each in documents if each["kind"] == "WanEvaluation"]
    made = {each["metadata"]["name"] for each in documents if each["kind"] == "WanFineTune"}
    named = {each["fineTuneRef"]["name"] for each in evaluation["spec"]["candidates"]}
    assert named == made
    (service,) = [each for each in documents if each["kind"] == "WanInferenceService"]
    followed = service["spec"]["model"]["fromEvaluation"]
    assert followed == {"name": evaluation["metadata"]["name"]}
