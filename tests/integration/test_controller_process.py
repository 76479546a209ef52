"""The operator's process: its leader, an outage of the API server, a hundred runs at rest."""

from __future__ import annotations

import re
import time

import pytest

from integration.apiserver import ApiServer
from integration.cluster import STEPS, Cluster, writes_of
from integration.operator_process import Operator, eventually
from integration.rest import settled
from integration.wire import Wire

OURS = ("wanfinetunes", "wanfinetunes/status", "jobs", "configmaps")
"""What nobody but the operator writes. (The Job controller posts Events of its own.)"""


def test_a_standby_takes_over_when_the_leader_is_killed(
    kubernetes: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    operator.settings["WAN_LEASE_SECONDS"] = "15"
    operator.start()
    eventually(lambda: "leading" in operator.get("/readyz")[1], "a leader")
    cluster.create("demo")
    cluster.starts("demo-prepare-1")
    second = Operator(
        kubernetes,
        cluster.namespace,
        settings={"WAN_LEASE_SECONDS": "15", "WAN_POD_NAME": "the-other"},
    ).start()
    try:
        assert "standing by" in second.get("/readyz")[1]
        operator.kill()
        cluster.succeeds("demo-prepare-1", "prepare")
        cluster.pod_of("demo-encode-1")
        assert "leading" in second.get("/readyz")[1]
    finally:
        second.terminate()
    lease = kubernetes.request(
        "GET",
        f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases/wan-operator",
    )
    assert not lease["spec"].get("holderIdentity"), "given back at the end"


def test_an_outage_of_the_api_server_is_survived(
    kubernetes: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    with Wire(kubernetes).laid() as wire:
        operator.kubeconfig = wire.kubeconfig()
        operator.start()
        cluster.create("demo")
        cluster.starts("demo-prepare-1")
        cluster.wait_condition("demo", "Running")
        wire.breaks()
        cluster.succeeds("demo-prepare-1", "prepare")
        eventually(lambda: operator.get("/livez")[0] == 200, "liveness while cut off")
        wire.heals()
        cluster.walk("demo", *STEPS[1:])
        cluster.wait_condition("demo", "Complete")
        assert operator.terminate() == 0


def test_a_hundred_idle_resources_cost_no_write_and_little_memory(
    cluster: Cluster, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.settings |= {"WAN_SWEEP_SECONDS": "2", "WAN_WRITES_PER_SECOND": "200"}
    for number in range(100):
        cluster.create(f"idle-{number}")
    operator.is_fork = False
    operator.start()

    def started() -> bool:
        return len(cluster.items("jobs")) == 100 and all(
            "conditions" in cr.get("status", {}) for cr in cluster.items("wanfinetunes")
        )

    eventually(started, "a hundred Jobs")
    eventually(lambda: len(cluster.items("pods")) == 100, "a hundred pods")

    def writes() -> dict[str, float]:
        of_all = writes_of(cluster.server)
        own = leases_aside(counted(operator, "wan_operator_api_writes_total"))
        return {kind: of_all.get(kind, 0) for kind in OURS} | own

    settled(writes, lambda: sweeps_of(operator), 4)
    assert operator.get("/livez") == (200, "ok")
    seconds = sorted(seconds_to_status(cluster, f"idle-{number}") for number in range(20))
    with capsys.disabled():
        print(
            f"\n100 runs at rest: {operator.rss_mib():.0f} MiB RSS; "
            f"edit to status p50 {seconds[10]:.3f} s, worst {seconds[-1]:.3f} s"
        )
    assert operator.rss_mib() < 150


def seconds_to_status(cluster: Cluster, name: str) -> float:
    start = time.monotonic()
    cluster.edit(name, checkpoint={"everySteps": 7})
    eventually(lambda: cluster.get(name)["status"]["observedGeneration"] == 2, "the new generation")
    return time.monotonic() - start


def metrics(operator: Operator) -> str:
    return operator.get("/metrics")[1]


def counted(operator: Operator, name: str) -> dict[str, float]:
    found = re.findall(rf"^{name}(\{{.*\}})? ([0-9.e+]+)$", metrics(operator), re.MULTILINE)
    assert found, f"no metric {name}"
    return {labels: float(value) for labels, value in found}


def sweeps_of(operator: Operator) -> float:
    return sum(counted(operator, "wan_operator_sweeps_total").values())


def leases_aside(writes: dict[str, float]) -> dict[str, float]:
    """A Lease is renewed with PUT, and nothing else is."""
    return {labels: value for labels, value in writes.items() if "PUT" not in labels}


def test_metrics_and_probes_answer(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    cluster.create("demo")
    cluster.pod_of("demo-prepare-1")
    # Counted when it has ended, which is after its Job is there.
    eventually(lambda: "wan_operator_reconcile_seconds_count" in metrics(operator), "a reconcile")
    text = metrics(operator)
    for name in (
        "wan_operator_reconcile_seconds_count",
        "wan_operator_queue_depth",
        "wan_operator_queue_age_seconds",
        "wan_operator_api_writes_total",
        "wan_operator_api_seconds_count",
        "wan_operator_loop_lag_seconds",
        "wan_operator_watch_age_seconds",
        "wan_operator_leading 1.0",
    ):
        assert name in text, name
    assert operator.get("/livez") == (200, "ok")
    assert operator.get("/readyz") == (200, "ok, leading")
