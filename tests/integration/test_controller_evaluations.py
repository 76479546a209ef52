"""A WanEvaluation against a real API server: names of the greatest length, the wait for a
fine-tune, the page for raters, a candidate that fails, the end."""

from __future__ import annotations

from typing import Any

from integration.cluster import RESULT_SHA, Cluster, exists, result
from integration.operator_process import Operator, eventually
from unit.controller.evaluation_world import gated
from wan_operator.api.v1alpha1.evaluation import NAME_LIMIT
from wan_runtime.contract.job import ExitClass, ManifestRef, Result
from wan_runtime.contract.reasons import Reason

NAME = "e" * NAME_LIMIT
LONG = "c" * 16
SPEC: dict[str, Any] = {
    "candidates": [
        {"name": LONG, "fineTuneRef": {"name": "tune"}},
        {"name": "old", "videos": "s3://wan/old"},
    ],
    "clips": {"fineTuneRef": {"name": "tune"}},
    "parallelism": {"generate": 2},
    "ratings": {"raters": ["ann"]},
    "gate": {"thresholds": [{"metric": "psnr", "value": 20}]},
}


def compared() -> str:
    """Last words of the step `compare`."""
    return Result(
        step_id="compare",
        exit_class=ExitClass.DONE,
        reason=Reason.COMPLETED,
        manifest=ManifestRef(uri="s3://wan/x/compare/manifest.json", sha256=RESULT_SHA),
        verdict=gated(True),
    ).dump()


def test_from_the_fine_tune_to_the_gate(cluster: Cluster, operator: Operator) -> None:
    server, namespace = cluster.server, cluster.namespace
    operator.start()
    cluster.create("tune")
    evaluations = Cluster(server, namespace, "wanevaluations")
    body = {
        "apiVersion": "wan-operator.dev/v1alpha1",
        "kind": "WanEvaluation",
        "metadata": {"name": NAME},
        "spec": SPEC,
    }
    server.request("POST", cluster.path("wanevaluations"), body)
    evaluations.wait_condition(NAME, "Reconciling", "WaitingForFineTune")
    cluster.walk("tune", "prepare", "encode", "train", "export")
    evaluations.walk(NAME, "collect")
    parts = [f"generate-{LONG}-part{number}" for number in (1, 2)]
    for part in parts:
        evaluations.starts(f"{NAME}-{part}-1")
    operator.kill()
    evaluations.walk(NAME, parts[0])
    message = result(parts[1], 10, "ModelInvalid", "the weights are of another model")
    evaluations.ends(f"{NAME}-{parts[1]}-1", 10, message)
    operator.start()
    evaluations.walk(NAME, "generate-old", "score")
    evaluations.starts(f"{NAME}-rate-1")
    page = f"{NAME}-ratings"
    paths = [cluster.path(kind, page) for kind in ("services", "networkpolicies")]
    eventually(lambda: all(exists(server, path) for path in paths), "the page to be reached")
    url = f"http://{page}.{namespace}.svc"

    def address() -> str | None:
        found: str | None = evaluations.get(NAME)["status"].get("ratings", {}).get("url")
        return found

    eventually(lambda: address() == url, "its address")
    evaluations.walk(NAME, "rate")
    evaluations.starts(f"{NAME}-compare-1")
    evaluations.ends(f"{NAME}-compare-1", 0, compared())
    evaluations.wait_condition(NAME, "Complete")
    evaluations.wait_condition(NAME, "GatePassed")
    status = evaluations.get(NAME)["status"]
    assert (status["winner"], status["decision"]) == ("base", "Winner")
    states = {step["name"]: step["state"] for step in status["steps"]}
    assert states.pop(parts[1]) == "Failed"
    assert set(states.values()) == {"Complete"}
    eventually(lambda: not any(exists(server, path) for path in paths), "the page to be gone")
