"""What breaks while a run is under way never changes its result."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from conftest import SAMPLED, SLOW
from finetunes import Run, assert_same_weights
from stack import SYSTEM_NAMESPACE, TIMEOUT, Stack, wait_until

NOW = ("--grace-period=0", "--force")
STEPS = ("prepare", "encode", "train", "export", "sample")


def patch(run: Run, content: str) -> None:
    run.stack.kubectl(
        "-n", run.namespace, "patch", "wft", run.name, "--type=merge", "-p", content
    )  # fmt: skip


def suspend(run: Run) -> None:
    """And wait until its training pod has ended; what is left of it may stay."""
    pod = run.running_pod("train")

    def going_on() -> list[str]:
        pods = run.pods("train")
        ended = ("Succeeded", "Failed")
        return [each["metadata"]["name"] for each in pods if each["status"]["phase"] not in ended]

    patch(run, '{"spec":{"suspend":true}}')
    wait_until(
        lambda: run.is_true("Suspended") and pod not in going_on(),
        what=run.story,
    )


@pytest.mark.alone
def test_operator_killed_in_every_phase(
    stack: Stack, start: Callable[..., Run], reference: Run
) -> None:
    reference.wait_complete()  # undisturbed
    run = start("operator-killed", validation=SAMPLED)
    for step in STEPS:
        run.wait_running(step)
        pod = stack.operator_pod()
        stack.kill(SYSTEM_NAMESPACE, pod)
        # A new pod at once: the kubelet would restart the container later and later.
        stack.kubectl("-n", SYSTEM_NAMESPACE, "delete", "pod", pod, *NOW)
    status = run.wait_complete()

    assert {step["name"]: step["attempts"] for step in status["steps"]} == dict.fromkeys(STEPS, 1)
    assert len(run.jobs()) == len(STEPS), "no duplicate child"
    assert_same_weights(run, reference)


def test_one_of_two_nodes_killed(stack: Stack, namespace: str, start: Callable[..., Run]) -> None:
    """Two pods of one Job, which train over Gloo."""
    training = {"steps": 40, **SLOW}
    run = start("node-killed", parallelism={"nodes": 2}, training=training)
    wait_until(lambda: run.training_step() >= 12, what=run.story, every=0.2)
    first, second = (pod["metadata"]["name"] for pod in run.pods("train"))
    stack.kill(namespace, second)
    status = run.wait_complete()

    train, failure = run.step("train"), status["lastFailure"]
    assert train["attempts"] == 2
    assert train["infrastructureRetries"] == 1
    assert failure["step"] == "train"
    assert failure["pod"] == second, f"the one that died, not {first}, which lost it: {failure}"
    assert int(train["summary"]["resumedFromStep"]) >= 10, "from its checkpoint, not from scratch"
    probes = json.loads(run.committed("train")["training.json"])["probes"]
    assert probes[-1]["losses"]["mean"] < probes[0]["losses"]["mean"], probes


def test_suspended_and_resumed(
    stack: Stack, namespace: str, start: Callable[..., Run], reference: Run
) -> None:
    run = start("suspended")
    wait_until(lambda: run.training_step() >= 3, what=run.story, every=0.2)
    suspend(run)
    assert not run.is_true("Running")
    patch(run, '{"spec":{"suspend":false}}')
    run.wait_complete()
    assert run.step("train").get("infrastructureRetries", 0) == 0, "a suspend costs no retry"
    assert_same_weights(run, reference)


def test_full_fine_tuning_killed_and_suspended(
    stack: Stack, namespace: str, start: Callable[..., Run]
) -> None:
    """Wan2.1, all weights: what one run did undisturbed, the other does in three attempts."""
    spec = {"method": {"full": {"learningRate": 1e-4}}, "training": {"steps": 60, **SLOW}}
    undisturbed, run = start("full", **spec), start("full-disturbed", **spec)
    wait_until(lambda: run.training_step() >= 12, what=run.story, every=0.2)
    pod = run.running_pod("train")
    assert pod is not None
    stack.kill(namespace, pod)
    wait_until(
        lambda: run.running_pod("train") not in (None, pod) and run.training_step() >= 15,
        what=run.story,
        every=0.2,
    )
    suspend(run)
    patch(run, '{"spec":{"suspend":false}}')
    run.wait_complete()
    train = run.step("train")
    assert train["infrastructureRetries"] == 1, "for the kill; the suspend costs none"
    assert int(train["summary"]["resumedFromStep"]) >= 15
    undisturbed.wait_complete()
    probes = json.loads(undisturbed.committed("train")["training.json"])["probes"]
    assert probes[-1]["losses"]["mean"] < 0.9 * probes[0]["losses"]["mean"], probes
    assert_same_weights(run, undisturbed)


def test_edited_and_deleted_mid_run(
    stack: Stack, namespace: str, start: Callable[..., Run]
) -> None:
    run = start("edited")
    run.wait_running("prepare")
    before = wait_until(lambda: run.status().get("effective"), what=run.story)
    patch(run, '{"spec":{"resources":{"memory":"2500Mi"}}}')
    run.wait_running("train")
    [pod] = run.pods("train")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "2500Mi", (
        "from the next Job on"
    )
    for field, content in {
        "training": '{"spec":{"training":{"steps":31}}}',
        "dataset": '{"spec":{"dataset":{"frames":13}}}',
        "method": '{"spec":{"method":{"lora":{"rank":8}}}}',
    }.items():
        with pytest.raises(Exception, match=f"{field} is fixed"):
            patch(run, content)
    assert run.status()["effective"] == before
    assert run.status()["observedGeneration"] == 2

    committed = run.committed("prepare")
    objects = run.objects()
    prefix = run.status()["effective"]["runPrefix"]
    stack.kubectl("-n", namespace, "delete", "wft", run.name, TIMEOUT)
    wait_until(run.gone, what="children gone")

    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    left = {
        found.object_name
        for found in stack.store().list_objects(bucket_name=bucket, prefix=key, recursive=True)
    }
    assert committed
    assert {key for key in objects if key.endswith("manifest.json")} <= left
