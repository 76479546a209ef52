"""Both experts of Wan2.2 at the same time, against a real API server."""

from __future__ import annotations

from typing import Any

from integration.cluster import Cluster, result
from integration.operator_process import Operator, eventually

HIGH, LOW = "demo-train-high-noise-1", "demo-train-low-noise-1"
PAIR: dict[str, Any] = {
    "model": {"preset": "Wan2.2-I2V-Tiny"},
    "parallelism": {"experts": "Parallel"},
}


def both_train(cluster: Cluster, **spec: Any) -> None:
    cluster.create("demo", **PAIR, **spec)
    cluster.walk("demo", "prepare", "encode")
    for name in (HIGH, LOW):
        cluster.binds(name)
        cluster.starts(name)

    def both() -> bool:
        found = cluster.condition("demo", "Running")
        return found is not None and all(name in found["message"] for name in (HIGH, LOW))

    eventually(both, "both to run")


def test_both_run_side_by_side_and_the_export_waits_for_both(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    both_train(cluster)
    assert cluster.get("demo")["status"]["effective"]["gpus"] == 2
    operator.kill()
    cluster.succeeds(LOW, "train-low-noise")
    operator.start()
    cluster.ends(HIGH, 30, result("train-high-noise", 30, "StoreUnreachable", "no route"))
    second = "demo-train-high-noise-2"
    cluster.starts(second)
    cluster.succeeds(second, "train-high-noise")
    cluster.walk("demo", "export")
    cluster.wait_condition("demo", "Complete")
    steps = cluster.get("demo")["status"]["steps"]
    assert [step["name"] for step in steps] == [
        "prepare",
        "encode",
        "train-high-noise",
        "train-low-noise",
        "export",
    ]
    assert [step["attempts"] for step in steps] == [1, 1, 2, 1, 1]


def test_suspend_waits_for_both_checkpoints(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    both_train(cluster, retries={"infrastructure": 0})
    cluster.edit("demo", suspend=True)
    cluster.wait_condition("demo", "Reconciling", "Suspending")
    for name, step in ((HIGH, "train-high-noise"), (LOW, "train-low-noise")):
        assert not cluster.condition("demo", "Suspended")
        pod = cluster.pod_of(name)["metadata"]["name"]
        cluster.ends(name, 40, result(step, 40, "Terminated", "stopped at step 7"))
        cluster.removes(pod)
    cluster.wait_condition("demo", "Suspended", "SuspendedByUser")
    cluster.edit("demo", suspend=False)
    for step in ("train-high-noise", "train-low-noise"):
        cluster.pod_of(f"demo-{step}-2")


def test_one_that_fails_for_good_stops_the_other(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    both_train(cluster)
    cluster.ends(LOW, 50, result("train-low-noise", 50, "NonFiniteLoss", "the loss is NaN"))
    failed = cluster.wait_condition("demo", "Failed", "NonFiniteLoss")
    assert "train-high-noise was stopped" in failed["message"]
    states = {step["name"]: step["state"] for step in cluster.get("demo")["status"]["steps"]}
    assert (states["train-high-noise"], states["train-low-noise"]) == ("Stopped", "Failed")

    def told_to_stop() -> bool:
        job = cluster.server.request("GET", cluster.path("jobs", HIGH))
        return "deletionTimestamp" in job["metadata"]

    eventually(told_to_stop, "the other's Job to be deleted")
    assert LOW in cluster.job_names("demo"), "kept for its logs"


def test_a_refusal_of_one_leaves_the_other_running(cluster: Cluster, operator: Operator) -> None:
    refuse_jobs(cluster, "low-noise")
    operator.start()
    cluster.create("demo", **PAIR)
    cluster.walk("demo", "prepare", "encode")
    cluster.binds(HIGH)
    cluster.starts(HIGH)
    told = cluster.wait_condition("demo", "Reconciling", "RequestRefused")
    assert "train-low-noise is refused by the API server" in told["message"]
    assert "no GPU is left" in told["message"]
    cluster.wait_condition("demo", "Running", "StepRunning")
    assert not cluster.condition("demo", "Stalled")
    assert LOW not in cluster.job_names("demo")
    cluster.succeeds(HIGH, "train-high-noise")

    def recorded() -> bool:
        steps = {step["name"]: step["state"] for step in cluster.get("demo")["status"]["steps"]}
        return steps["train-high-noise"] == "Complete"

    eventually(recorded, "the end of the other")


def refuse_jobs(cluster: Cluster, mark: str) -> None:
    """Jobs of this namespace with `mark` in their name, as a webhook would; in force on return."""
    group, name = "/apis/admissionregistration.k8s.io/v1", cluster.namespace
    jobs = {
        "apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["jobs"],
    }  # fmt: skip
    rule = {"expression": f"!object.metadata.name.contains('{mark}')", "message": "no GPU is left"}
    policy = {
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [jobs]}, "validations": [rule]},
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    binding = {
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": here},
        },
    }
    cluster.server.request("POST", f"{group}/validatingadmissionpolicies", policy)
    cluster.server.request("POST", f"{group}/validatingadmissionpolicybindings", binding)
    cluster.wait_refused(mark, "no GPU is left")
