"""The operator with no more rights than the chart gives it, and a queue that takes a Job back."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.apiserver import ApiServer
from integration.cluster import STEPS, Cluster, result
from integration.operator_process import ROOT, Operator, eventually

Raw = dict[str, Any]
RELEASE = "rights"
FULL_NAME = f"{RELEASE}-wan-operator"
PARTS = ("operator/serviceaccount", "rbac/operator", "rbac/leader-election")


def account_of_the_chart(server: ApiServer, namespace: str, *settings: str) -> Path:
    """A kubeconfig with the token of the account that the chart makes, and its rights in force."""
    words = [word for each in settings for word in ("--set", each)]
    parts = [word for part in PARTS for word in ("-s", f"templates/{part}.yaml")]
    manifests = subprocess.run(
        [
            *(Path(os.environ["WAN_BIN"]) / "helm", "template", RELEASE),
            *(ROOT / "charts" / "wan-operator", "-n", namespace, *words, *parts),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"HOME": str(server.folder)},
    ).stdout
    server.kubectl("apply", "-f", "-", stdin=manifests)
    account = f"system:serviceaccount:{namespace}:{FULL_NAME}"
    for each in yaml.safe_load_all(manifests):
        if each and each["kind"] in ("Role", "ClusterRole"):
            eventually(functools.partial(is_granted, server, account, each), "its rights")
    answer = server.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{FULL_NAME}/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    config = json.loads(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": answer["status"]["token"]}
    path = server.folder / f"kubeconfig-{namespace}"
    path.write_text(json.dumps(config))
    return path


def is_granted(server: ApiServer, account: str, role: Raw) -> bool:
    """Whether an account has a role, by one of its rules: what has just been bound takes effect a
    moment later."""
    rule = role["rules"][-1]
    attributes = {
        "namespace": role["metadata"].get("namespace", ""),
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "verb": rule["verbs"][0],
        "name": rule.get("resourceNames", [""])[0],
    }
    body = {"spec": {"user": account, "resourceAttributes": attributes}}
    review = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    allowed: bool = server.request("POST", review, body)["status"]["allowed"]
    return allowed


@pytest.mark.parametrize("scope", ["namespaces", "cluster"])
def test_the_charts_rights_are_enough_for_a_whole_life(
    kubernetes: ApiServer, operator: Operator, namespace: str, scope: str
) -> None:
    """With Roles alone any call beyond the watched namespaces is forbidden, and would be seen."""
    team = f"{namespace}-team"
    kubernetes.request("POST", "/api/v1/namespaces", {"metadata": {"name": team}})
    watched = team if scope == "namespaces" else ""
    setting = f"watchNamespaces={{{watched}}}" if watched else "watchNamespaces=null"
    operator.kubeconfig = account_of_the_chart(kubernetes, namespace, setting)
    operator.settings |= {"WAN_WATCH_NAMESPACES": watched, "WAN_LEASE_NAME": FULL_NAME}
    operator.start()
    cluster = Cluster(kubernetes, team)
    cluster.create("demo", ttlSecondsAfterFinished=1)
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")
    cluster.edit("demo", suspend=True)
    cluster.wait_condition("demo", "Suspended")
    cluster.edit("demo", suspend=False)
    cluster.starts("demo-prepare-2")
    cluster.succeeds("demo-prepare-2", "prepare")
    cluster.walk("demo", *STEPS[1:])
    cluster.wait_condition("demo", "Complete")
    eventually(lambda: not cluster.items("configmaps", "demo"), "the TTL to remove the children")
    told = kubernetes.request("GET", f"/apis/events.k8s.io/v1/namespaces/{team}/events")["items"]
    assert any(event["reason"] == "Completed" for event in told)
    assert operator.terminate() == 0
    # In RBAC's words: quotas of other tests' namespaces forbid things too, and are seen from here.
    assert "forbidden: user" not in operator.log.read_text().lower()


def test_a_queue_takes_a_job_back_and_the_same_job_goes_on(
    kubernetes: ApiServer, operator: Operator, namespace: str
) -> None:
    """Kueue's preemption: it suspends the Job, whose controller takes the pod away."""
    cluster = Cluster(kubernetes, namespace)
    operator.start()
    cluster.create("demo", retries={"infrastructure": 0})
    pod = cluster.binds("demo-prepare-1")
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")
    job = cluster.path("jobs", "demo-prepare-1")

    def suspend(wanted: bool) -> None:
        body = {"spec": {"suspend": wanted}}
        kubernetes.request("PATCH", job, body, content_type="application/merge-patch+json")

    suspend(True)
    eventually(
        lambda: "deletionTimestamp" in cluster.pod_of("demo-prepare-1")["metadata"],
        "the pod to be told to stop",
    )
    cluster.ends("demo-prepare-1", 40, result("prepare", 40, "Terminated", "stopped at 7"))
    cluster.removes(pod)
    cluster.wait_condition("demo", "Reconciling", "Queued")
    suspend(False)
    eventually(lambda: cluster.pod_of("demo-prepare-1")["metadata"]["name"] != pod, "the next pod")
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")
    cluster.succeeds("demo-prepare-1", "prepare")
    cluster.pod_of("demo-encode-1")
    step = cluster.get("demo")["status"]["steps"][0]
    assert (step["attempts"], step["infrastructureRetries"]) == (1, 0)
    assert cluster.job_names("demo") == ["demo-encode-1", "demo-prepare-1"]


def test_a_pod_deleted_by_force_is_replaced_after_one_pause(
    kubernetes: ApiServer, operator: Operator, namespace: str
) -> None:
    cluster = Cluster(kubernetes, namespace)
    operator.start()
    cluster.create("demo")
    pod = cluster.binds("demo-prepare-1")
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")
    cluster.removes(pod)  # the Job's finalizer holds it until its kubelet has seen the end
    cluster.ends("demo-prepare-1", 137)
    told = cluster.wait_event("PodLost", "RetryStep")
    # Deleted, or gone already: the operator may look only once the API server has let it go.
    assert "left no result" in told["note"]
    assert "result.." not in told["note"]
    assert "Attempt 2 (retry 1 of 5) starts at" in told["note"]
    cluster.starts("demo-prepare-2")
    cluster.wait_condition("demo", "Running")
