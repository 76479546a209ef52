"""The operator's process against a real API server: its life, killed in every phase, at rest,
cut off."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from integration.apiserver import ApiServer
from integration.test_controller_support import (
    ROOT,
    STEPS,
    Cluster,
    Operator,
    Wire,
    controllers,
    eventually,
    exists,
    progress_of_a_pod,
    result,
    writes_of,
)
from wan_runtime.job import Progress

OURS = ("wanfinetunes", "wanfinetunes/status", "jobs", "configmaps")
"""What nobody but the operator writes. (The Job controller posts Events of its own.)"""


@pytest.fixture(scope="module")
def kubernetes(apiserver: ApiServer) -> Iterator[ApiServer]:
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    apiserver.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    with controllers(apiserver):
        yield apiserver


@pytest.fixture
def cluster(kubernetes: ApiServer, namespace: str) -> Cluster:
    return Cluster(kubernetes, namespace)


@pytest.fixture
def operator(kubernetes: ApiServer, namespace: str) -> Iterator[Operator]:
    running = Operator(kubernetes, namespace)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.terminate()


def test_runs_to_its_weights(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    cluster.create("demo")
    cluster.walk("demo", *STEPS)
    done = cluster.wait_condition("demo", "Complete", "Completed")
    status = cluster.get("demo")["status"]
    assert "s3://wan/x/export/manifest.json" in done["message"]
    assert status["conditions"][0]["type"] == "Complete"
    assert [step["state"] for step in status["steps"]] == ["Complete"] * 4
    assert status["artifact"]["sha256"] == "a" * 64
    assert status["observedGeneration"] == 1
    assert cluster.job_names("demo") == sorted(f"demo-{step}-1" for step in STEPS)
    told = cluster.server.request(
        "GET", f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"
    )["items"]
    ours = [event for event in told if event["reportingController"].startswith("wan-operator")]
    assert [event["action"] for event in sorted(ours, key=lambda e: e["eventTime"])] == [
        *(["StartStep", "FinishStep"] * 4),
        "FinishRun",
    ]
    assert operator.terminate() == 0


@pytest.mark.parametrize("phase", ["created", "pending", "running", "ended unseen", "racing"])
def test_killed_in_every_phase_it_doubles_and_loses_nothing(
    cluster: Cluster, operator: Operator, phase: str
) -> None:
    """Killed with signal 9 once for each step, at the same point of it."""
    operator.start()
    cluster.create("demo")
    for step in STEPS:
        job = f"demo-{step}-1"
        if phase == "created":
            operator.kill()  # the Job may be there or not
            operator.start()
        cluster.pod_of(job)
        if phase == "pending":
            operator.kill()
            operator.start()
        cluster.starts(job)
        if phase == "running":
            cluster.wait_condition("demo", "Running")
            operator.kill()
            operator.start()
        if phase == "ended unseen":
            operator.kill()
        cluster.succeeds(job, step)
        if phase == "racing":
            operator.kill()  # while it reads the result, records it or starts the next step
        if phase in ("ended unseen", "racing"):
            operator.start()
    cluster.wait_condition("demo", "Complete")
    assert operator.starts == 1 + len(STEPS)
    assert cluster.job_names("demo") == sorted(f"demo-{step}-1" for step in STEPS)
    status = cluster.get("demo")["status"]
    assert [step["attempts"] for step in status["steps"]] == [1] * 4
    assert [step["infrastructureRetries"] for step in status["steps"]] == [0] * 4


def test_wrong_input_fails_and_stalls_with_the_users_words(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    cluster.create("demo")
    words = result("prepare", 10, "ClipInvalid", "clips/7.mp4 has 3 frames, 17 are needed")
    cluster.ends("demo-prepare-1", 10, words)
    failed = cluster.wait_condition("demo", "Failed", "ClipInvalid")
    assert "clips/7.mp4 has 3 frames" in failed["message"]
    cluster.wait_condition("demo", "Stalled", "ClipInvalid")
    assert cluster.get("demo")["status"]["conditions"][0]["type"] == "Failed"
    assert cluster.job_names("demo") == ["demo-prepare-1"], "kept for its logs"


def test_lost_pods_are_replaced_after_a_pause_and_the_cause_is_told(
    cluster: Cluster, operator: Operator
) -> None:
    operator.settings["WAN_RETRY_BASE_SECONDS"] = "3"
    operator.start()
    cluster.create("demo")
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")
    cluster.loses_node("demo-prepare-1")
    waits = cluster.wait_condition("demo", "Reconciling", "PodLost")
    assert "Attempt 2 of 6 starts at" in waits["message"]
    operator.kill()  # in the back-off
    operator.start()
    cluster.ends("demo-prepare-2", 30, result("prepare", 30, "StoreAccessDenied", "403"))
    cluster.wait_condition("demo", "Reconciling", "StoreAccessDenied")
    cluster.starts("demo-prepare-3")
    cluster.succeeds("demo-prepare-3", "prepare")
    cluster.pod_of("demo-encode-1")
    step = cluster.get("demo")["status"]["steps"][0]
    assert (step["attempts"], step["infrastructureRetries"]) == (3, 2)


def test_a_missing_secret_is_named_until_it_is_there(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    cluster.create("demo")
    cluster.waits("demo-prepare-1", "CreateContainerConfigError", 'secret "minio" not found')
    told = cluster.wait_condition("demo", "Reconciling", "SecretNotFound")
    assert '"minio"' in told["message"]
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")
    assert cluster.condition("demo", "Reconciling") is None


def test_suspend_waits_for_the_checkpoint_and_resume_goes_on(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    cluster.create("demo", retries={"infrastructure": 0})
    cluster.walk("demo", "prepare", "encode")
    pod = cluster.binds("demo-train-1")
    cluster.starts("demo-train-1")
    cluster.wait_condition("demo", "Running")
    cluster.edit("demo", suspend=True)
    cluster.wait_condition("demo", "Reconciling", "Suspending")
    operator.kill()
    operator.start()
    cluster.ends("demo-train-1", 40, result("train", 40, "Terminated", "stopped at step 7"))
    cluster.removes(pod)
    cluster.wait_condition("demo", "Suspended", "SuspendedByUser")
    eventually(lambda: "demo-train-1" not in cluster.job_names("demo"), "the Job to be gone")
    cluster.edit("demo", suspend=False)
    cluster.starts("demo-train-2")
    cluster.wait_condition("demo", "Running")
    assert cluster.get("demo")["status"]["steps"][2]["infrastructureRetries"] == 0


def test_the_deadline_stops_the_job_and_the_ttl_removes_the_children(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    cluster.create("demo", activeDeadlineSeconds=3, ttlSecondsAfterFinished=2)
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Failed", "DeadlineExceeded")

    def children() -> list[str]:
        kinds = ("jobs", "pods", "configmaps")
        return [i["metadata"]["name"] for kind in kinds for i in cluster.items(kind, "demo")]

    eventually(lambda: not children(), "the children to be removed")
    assert exists(cluster.server, cluster.path("wanfinetunes", "demo"))


def test_deleting_the_resource_leaves_nothing_and_a_namesake_can_follow(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    cluster.create("demo")
    first = cluster.pod_of("demo-prepare-1")["metadata"]["uid"]
    cluster.server.request("DELETE", cluster.path("wanfinetunes", "demo"))
    cluster.create("demo")

    def follows() -> bool:
        return cluster.pod_of("demo-prepare-1")["metadata"]["uid"] != first

    eventually(follows, "a pod of the second demo")
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")


def test_a_strangers_job_is_neither_taken_nor_touched(cluster: Cluster, operator: Operator) -> None:
    container = {"name": "c", "image": "x"}
    theirs = {
        "metadata": {"name": "demo-prepare-1"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    before = cluster.server.request("POST", cluster.path("jobs"), theirs)
    operator.start()
    cluster.create("demo")
    told = cluster.wait_condition("demo", "Stalled", "NameConflict")
    assert "demo-prepare-1" in told["message"]
    after = cluster.server.request("GET", cluster.path("jobs", "demo-prepare-1"))
    assert (after["spec"], after["metadata"]["uid"]) == (before["spec"], before["metadata"]["uid"])


def test_a_refusal_of_the_api_server_is_told(cluster: Cluster, operator: Operator) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    cluster.server.request("POST", cluster.path("resourcequotas"), quota)
    operator.start()

    def refused() -> bool:
        # The quota's numbers come from its controller, which does not run here: set them.
        status = {"status": {"hard": quota["spec"]["hard"], "used": {"count/jobs.batch": "0"}}}
        cluster.server.request(
            "PATCH",
            cluster.path("resourcequotas", "none") + "/status",
            status,
            content_type="application/merge-patch+json",
        )
        return True

    refused()
    cluster.create("demo")
    told = cluster.wait_condition("demo", "Stalled", "RequestRefused")
    assert "exceeded quota" in told["message"]


def test_progress_reaches_the_status(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    cluster.create("demo")
    cluster.walk("demo", "prepare", "encode")
    said = Progress(step_id="train", activity="training", current=40, total=200, eta_seconds=250)
    with progress_of_a_pod(lambda: said.model_dump_json(by_alias=True)) as address:
        cluster.starts("demo-train-1", address)

        def shown() -> str:
            progress: str = cluster.get("demo")["status"]["progress"]["display"]
            return progress if progress == "train 40/200" else ""

        eventually(shown, "the progress in the status")
    table = cluster.server.kubectl("-n", cluster.namespace, "get", "wft", "demo").stdout
    assert "train 40/200" in table
    assert "4m10s" in table


def test_a_standby_takes_over_when_the_leader_is_killed(
    kubernetes: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    operator.settings["WAN_LEASE_SECONDS"] = "5"
    operator.start()
    eventually(lambda: "leading" in operator.get("/readyz")[1], "a leader")
    cluster.create("demo")
    cluster.starts("demo-prepare-1")
    second = Operator(
        kubernetes,
        cluster.namespace,
        settings={"WAN_LEASE_SECONDS": "5", "WAN_POD_NAME": "the-other"},
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
        operator.settings["WAN_LEASE_SECONDS"] = "60"
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
    operator.start()

    def started() -> bool:
        return len(cluster.items("jobs")) == 100 and all(
            "conditions" in cr.get("status", {}) for cr in cluster.items("wanfinetunes")
        )

    eventually(started, "a hundred Jobs")
    eventually(lambda: len(cluster.items("pods")) == 100, "a hundred pods")

    def quiet() -> bool:
        before = counted(operator, "wan_operator_api_writes_total")
        sweeps = sweeps_of(operator)
        eventually(lambda: sweeps_of(operator) > sweeps, "a sweep")
        return leases_aside(before) == leases_aside(
            counted(operator, "wan_operator_api_writes_total")
        )

    eventually(quiet, "the last status of the start")
    before, sweeps = writes_of(cluster.server), sweeps_of(operator)
    own = leases_aside(counted(operator, "wan_operator_api_writes_total"))
    versions = {cr["metadata"]["name"]: cr for cr in cluster.items("wanfinetunes")}
    eventually(lambda: sweeps_of(operator) >= sweeps + 4, "four sweeps at rest")
    after = writes_of(cluster.server)
    assert {kind: after.get(kind, 0) - before.get(kind, 0) for kind in OURS} == dict.fromkeys(
        OURS, 0
    )
    assert leases_aside(counted(operator, "wan_operator_api_writes_total")) == own
    for cr in cluster.items("wanfinetunes"):
        old = versions[cr["metadata"]["name"]]
        assert cr["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]
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


def counted(operator: Operator, name: str) -> dict[str, float]:
    text = operator.get("/metrics")[1]
    found = re.findall(rf"^{name}(\{{.*\}})? ([0-9.e+]+)$", text, re.MULTILINE)
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
    text = operator.get("/metrics")[1]
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


def test_times_in_the_status_are_kubernetes_times(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    cluster.create("demo")
    cluster.starts("demo-prepare-1")
    condition = cluster.wait_condition("demo", "Running")
    assert datetime.strptime(condition["lastTransitionTime"], "%Y-%m-%dT%H:%M:%SZ")
