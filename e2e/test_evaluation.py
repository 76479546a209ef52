"""A WanEvaluation from candidates to a verdict: a person rates, and the operator is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetunes import Run
from stack import (
    BUCKET,
    STORE_SECRET,
    SYSTEM_NAMESPACE,
    CommandError,
    Manifest,
    Stack,
    wait_until,
)
from test_faults import NOW
from wan_runtime.evaluation.records import RATINGS, Ratings


class Evaluation(Run):
    PLURAL = "wanevaluations"
    LABEL = "wan-operator.dev/evaluation"


@pytest.mark.alone
def test_candidates_are_compared_while_the_operator_is_killed(
    stack: Stack, reference: Run, dataset: str, tmp_path: Path
) -> None:
    reference.wait_complete()
    run = Evaluation(stack, reference.namespace, "compared")
    stack.apply(
        {
            "apiVersion": "wan-operator.dev/v1alpha1",
            "kind": "WanEvaluation",
            "metadata": {"name": run.name, "namespace": run.namespace},
            "spec": {
                "candidates": [
                    {"name": "base", "model": {"preset": "Wan2.1-I2V-Tiny"}},
                    {"name": "trained", "fineTuneRef": {"name": reference.name}},
                    {"name": "absent", "videos": f"s3://{BUCKET}/e2e-videos/none"},
                ],
                "clips": {"dataset": {"source": dataset}},
                "sampling": {
                    "size": {"width": 64, "height": 48},
                    "frames": 9,
                    "fps": 16,
                    "steps": 2,
                },
                "metrics": ["psnr", "ssim", "motion_ratio"],
                "ratings": {
                    "raters": ["anna"],
                    "clips": 1,
                    "repeats": 0,
                    "hiddenReferences": False,
                },
                "decision": {"metric": "psnr"},
                "gate": {
                    "candidate": "trained",
                    "baseline": "base",
                    "thresholds": [{"metric": "psnr", "value": 5}],
                },
                "resources": {"cpu": "100m"},
                "store": {
                    "endpoint": stack.endpoint,
                    "bucket": BUCKET,
                    "prefix": "e2e",
                    "secretRef": {"name": STORE_SECRET},
                },
            },
        }
    )
    for step in ("collect", "generate-trained", "score", "rate"):
        kill_operator(run, step)
    rate_all(run, tmp_path / "judgement.json")
    kill_operator(run, "compare")
    status = run.wait_complete()

    assert {step["attempts"] for step in status["steps"]} == {1}, "no duplicate child"
    assert [len(run.jobs())] == [len(status["steps"])]
    rows = {row["name"]: row for row in status["candidates"]}
    assert {name: (row["clips"], row.get("failed", 0)) for name, row in rows.items()} == {
        "base": (4, 0),
        "trained": (4, 0),
        "absent": (0, 4),
    }
    assert rows["trained"]["quality"] > rows["base"]["quality"], "it has seen the man before"
    assert rows["trained"]["opinion"] == 4
    assert status["decision"] == "Inconclusive", "four clips are no evidence"
    gate = run.conditions()["GatePassed"]
    assert gate["status"] != "True", "nor for a gate"
    [row] = stack.kubectl("-n", run.namespace, "get", "wev", "--no-headers").splitlines()
    assert row.split()[:3] == [run.name, "Complete", "Completed"]
    found = run.committed("compare")
    assert b"<html" in found["report.html"]
    assert json.loads(found["evaluation.json"])
    kept = Ratings.model_validate_json(run.committed("rate")[RATINGS])
    assert kept.complete
    assert {rating.rater for rating in kept.ratings} == {"anna"}


def kill_operator(run: Run, step: str) -> None:
    """While the step runs."""
    run.wait_running(step)
    pod = run.stack.operator_pod()
    run.stack.kill(SYSTEM_NAMESPACE, pod)
    run.stack.kubectl("-n", SYSTEM_NAMESPACE, "delete", "pod", pod, *NOW)


def rate_all(run: Run, file: Path) -> None:
    """Judges all that one rater is given, through the page's own API behind its Service."""
    service = f"/api/v1/namespaces/{run.namespace}/services/{run.name}-ratings:80/proxy"

    def links() -> list[str]:
        return [key for key in run.objects() if key.endswith("/links.json")]

    wait_until(links, what=run.story)
    answer = run.stack.store().get_object(bucket_name=BUCKET, object_name=links()[0])
    rater = f"{service}/rate/{json.loads(answer.read())['raters']['anna']}"
    wait_until(lambda: run.status().get("ratings", {}).get("url"), what=run.story)
    marks = ("dynamics", "camera_control", "frame_quality", "accuracy")
    file.write_text(json.dumps({"scores": dict.fromkeys(marks, 4)}))
    for item in wait_until(lambda: session(run, rater), what=run.story)["items"]:
        run.stack.kubectl("replace", "--raw", f"{rater}/judgements/{item['id']}", "-f", file)


def session(run: Run, rater: str) -> Manifest | None:
    """What a rater is given; None while the page does not answer."""
    try:
        return run.stack.api(f"{rater}/session")
    except CommandError:
        return None
