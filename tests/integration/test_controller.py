"""A run's life against a real API server, with the operator killed in every phase of it."""

from __future__ import annotations

from datetime import datetime

import pytest

from integration.cluster import STEPS, Cluster, exists, result
from integration.operator_process import Operator, eventually
from integration.wire import progress_of_a_pod
from wan_runtime.contract.job import ExitClass, Progress


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
    path = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"

    def actions() -> list[str]:
        found = cluster.server.request("GET", path)["items"]
        ours = [each for each in found if each["reportingController"].startswith("wan-operator")]
        return [each["action"] for each in sorted(ours, key=lambda each: each["eventTime"])]

    # The last are posted after the status that has been waited for.
    eventually(lambda: "FinishRun" in actions(), "the Event of the run's end")
    assert actions() == [*(["StartStep", "FinishStep"] * 4), "FinishRun"]
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


def test_wrong_input_is_said_in_its_words_and_an_edit_starts_the_run_over(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    cluster.create("demo")
    words = result("prepare", 10, "ClipInvalid", "clips/7.mp4 has 3 frames, 17 are needed")
    cluster.ends("demo-prepare-1", 10, words)
    stalled = cluster.wait_condition("demo", "Stalled", "ClipInvalid")
    assert "clips/7.mp4 has 3 frames" in stalled["message"]
    assert cluster.get("demo")["status"]["conditions"][0]["type"] == "Stalled"
    before = cluster.get("demo")
    cluster.edit("demo", dataset={**before["spec"]["dataset"], "frames": 5})
    cluster.pod_of("demo-prepare-2")
    file = cluster.server.request("GET", cluster.path("configmaps", "demo-prepare"))
    cluster.succeeds("demo-prepare-2", "prepare")
    assert '"frames": 5' in file["data"]["job.json"]
    cluster.pod_of("demo-encode-1")
    assert cluster.get("demo")["status"]["steps"][0].get("infrastructureRetries", 0) == 0


def test_lost_pods_are_replaced_after_a_pause_and_the_cause_is_told(
    cluster: Cluster, operator: Operator
) -> None:
    operator.settings["WAN_RETRY_BASE_SECONDS"] = "3"
    operator.start()
    cluster.create("demo")
    cluster.starts("demo-prepare-1")
    cluster.wait_condition("demo", "Running")
    cluster.loses_node("demo-prepare-1")
    told = cluster.wait_event("PodLost", "RetryStep")
    assert "Attempt 2 (retry 1 of 5) starts at" in told["note"]
    operator.kill()  # in the back-off
    operator.start()
    cluster.ends("demo-prepare-2", 30, result("prepare", 30, "StoreUnreachable", "no route"))
    cluster.wait_event("StoreUnreachable", "RetryStep")
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
    cluster.create("demo", ttlSecondsAfterFinished=2)
    cluster.starts("demo-prepare-1")
    # Counts from the Job, whose pod may take longer.
    cluster.edit("demo", activeDeadlineSeconds=4)
    cluster.wait_condition("demo", "Failed", "DeadlineExceeded")

    def children() -> list[str]:
        kinds = ("jobs", "pods", "configmaps")
        return [i["metadata"]["name"] for kind in kinds for i in cluster.items(kind, "demo")]

    eventually(lambda: not children(), "the children to be removed")
    assert exists(cluster.server, cluster.path("wanfinetunes", "demo"))


@pytest.mark.parametrize("end", [ExitClass.DONE, ExitClass.NUMERICAL])
def test_an_ended_run_that_is_edited_is_waited_for_no_longer(
    cluster: Cluster, operator: Operator, end: ExitClass
) -> None:
    cluster.create("demo")
    unseen = cluster.get("demo")["status"]
    assert unseen == {"observedGeneration": -1}, "in progress, for kstatus"
    operator.start()
    condition = "Complete"
    if end is ExitClass.DONE:
        cluster.walk("demo", *STEPS)
    else:
        condition = "Failed"
        cluster.starts("demo-prepare-1")
        cluster.ends("demo-prepare-1", end, result("prepare", end, "NonFiniteLoss", "none"))
    cluster.wait_condition("demo", condition)
    cluster.edit("demo", suspend=True, ttlSecondsAfterFinished=3600, validation={"samples": 3})
    done = cluster.server.kubectl(
        *("wait", f"--for=condition={condition}", "--timeout=150s", "wanfinetune/demo"),
        *("--namespace", cluster.namespace),
    )
    assert "condition met" in done.stdout


def test_a_mended_spec_and_a_mended_setting_reach_the_pod_that_waits(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    cluster.create("demo")
    cluster.waits("demo-prepare-1", "ImagePullBackOff", "no such image")
    cluster.wait_condition("demo", "Reconciling", "ImagePullBackOff")
    cluster.edit("demo", podTemplate={"nodeSelector": {"pool": "gpu"}})
    assert cluster.pod_of("demo-prepare-2")["spec"]["nodeSelector"] == {"pool": "gpu"}
    eventually(
        lambda: cluster.job_names("demo") == ["demo-prepare-2"], "the Job that never began to go"
    )
    operator.terminate()
    operator.settings["WAN_RUNTIME_IMAGE"] = "registry.example/mended"
    operator.start()
    image = cluster.pod_of("demo-prepare-3")["spec"]["containers"][0]["image"]
    assert image == "registry.example/mended"
    cluster.starts("demo-prepare-3")
    cluster.wait_condition("demo", "Running")
    assert cluster.get("demo")["status"]["steps"][0].get("infrastructureRetries", 0) == 0


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
    # The quota's numbers come from its controller, which does not run here: set them.
    status = {"status": {"hard": quota["spec"]["hard"], "used": {"count/jobs.batch": "0"}}}
    cluster.server.request(
        "PATCH",
        cluster.path("resourcequotas", "none") + "/status",
        status,
        content_type="application/merge-patch+json",
    )
    cluster.wait_refused("demo-prepare-1", "exceeded quota")
    operator.start()
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


def test_a_status_is_never_too_long_for_the_api_server(
    cluster: Cluster, operator: Operator
) -> None:
    operator.start()
    cluster.create("demo")
    cluster.walk("demo", "prepare", "encode")
    said = Progress(step_id="train", activity="x" * 5000, current=10**30, total=1)
    with progress_of_a_pod(lambda: said.model_dump_json(by_alias=True)) as address:
        cluster.starts("demo-train-1", address)

        def shown() -> bool:
            activity: str = cluster.get("demo")["status"]["progress"]["activity"]
            return activity.startswith("xxx")

        eventually(shown, "the pod's words in the status")


def test_times_in_the_status_are_kubernetes_times(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    cluster.create("demo")
    cluster.starts("demo-prepare-1")
    condition = cluster.wait_condition("demo", "Running")
    assert datetime.strptime(condition["lastTransitionTime"], "%Y-%m-%dT%H:%M:%SZ")
