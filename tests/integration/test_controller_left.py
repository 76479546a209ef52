"""What deleted resources left is removed by Jobs that outlive them."""

from __future__ import annotations

import json

from integration.cluster import Cluster, Raw
from integration.operator_process import Operator, eventually
from integration.runs import ROOT, Runs, load


def named(cluster: Cluster, name: str) -> Raw | None:
    return next((each for each in cluster.items("jobs") if each["metadata"]["name"] == name), None)


def waiting(cluster: Cluster, name: str) -> Raw:
    """The suspended Job."""
    job = eventually(lambda: named(cluster, name), f"the Job {name}")
    assert "ownerReferences" not in job["metadata"]
    assert job["spec"]["suspend"] is True
    return job


def left(job: Raw) -> Raw:
    """What it removes."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (entry,) = (each for each in container["env"] if each["name"] == "WAN_LEFT")
    found: Raw = json.loads(entry["value"])
    return found


def folder_of(job: Raw) -> str:
    """Key prefix of the first folder that it removes."""
    key: str = left(job)["folders"]["keys"][0]
    return key


def due(job: Raw, name: str) -> Raw:
    """The same Job, had the resource been deleted long ago."""
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (entry,) = (each for each in container["env"] if each["name"] == "WAN_LEFT")
    past = json.loads(entry["value"]) | {"due": "2026-01-01T00:00:00Z"}
    entry["value"] = json.dumps(past)
    labels = job["metadata"]["labels"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {"suspend": True, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def test_of_a_run_and_of_a_service(cluster: Cluster, operator: Operator) -> None:
    operator.settings = {"WAN_SWEEP_SECONDS": "1", "WAN_DATABASE_SECRET": "wan-database"}
    operator.start()
    services = Runs(cluster.server, cluster.namespace, "waninferenceservices")
    manifest = load(ROOT / "examples" / "inference-tiny.yaml")
    manifest["spec"] |= {"adapters": [], "effects": []}
    served = services.create(manifest)["metadata"]
    run = cluster.create("run")["metadata"]
    cluster.walk("run", "prepare", "encode")
    cluster.starts("run-train-1")
    cluster.wait_condition("run", "Running")
    cluster.server.request("DELETE", cluster.path("wanfinetunes", "run"))
    made = waiting(cluster, f"run-{run['uid'][:8]}-clear")
    cluster.server.request("POST", cluster.path("jobs"), due(made, "long-ago"))

    def began() -> bool:
        found = cluster.server.request("GET", f"{services.path}/{served['name']}")
        return "effective" in found.get("status", {})

    eventually(began, "the service to begin")
    cluster.server.request("DELETE", f"{services.path}/{served['name']}")
    for part in ("clear", "expire"):
        waiting(cluster, f"{served['name']}-{served['uid'][:8]}-{part}")
    cluster.pod_of("long-ago")
    waiting(cluster, made["metadata"]["name"])

    uri = f"s3://wan/{folder_of(made)}adapter.safetensors"
    cluster.create("next", method={"lora": {"initFrom": {"uri": uri}}}, suspend=True)
    cluster.wait_condition("next", "Suspended")
    cluster.server.request("POST", cluster.path("jobs"), due(made, "held"))

    def said() -> str:
        found = (named(cluster, "held") or {})["metadata"].get("annotations", {})
        return str(found.get("wan-operator.dev/waits-for", ""))

    assert f"WanFineTune {cluster.namespace}/next names s3://wan/" in eventually(said, "the cause")
    waiting(cluster, "held")
    cluster.server.request("DELETE", cluster.path("wanfinetunes", "next"))
    cluster.pod_of("held")
    assert said() == ""
