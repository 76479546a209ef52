"""What Events say of a Job or a pod that does not start is the condition's own reason and
message."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.test_parallel import HIGH, LOW
from unit.controller.test_service_import import service
from unit.controller.world import World
from wan_operator.reconcile.observed import WarningEvent
from wan_operator.reconcile.waiting import refused_pod
from wan_runtime.contract.job import ExitClass

Raw = dict[str, Any]
JOB = "demo-prepare-1"
FORBIDDEN = f'Error creating: pods "{JOB}-x7x2z" is forbidden: '
QUOTA = "exceeded quota: team, requested: cpu=500m, used: cpu=4, limited: cpu=4"
ACCOUNT = 'error looking up service account team/trainer: serviceaccount "trainer" not found'
PENDING = [
    (FORBIDDEN + QUOTA, "QuotaExceeded", QUOTA),
    (
        'Error creating: Internal error occurred: failed calling webhook "x": timeout',
        "PodRefused",
        "failed calling webhook",
    ),
]
FINAL = [
    (
        FORBIDDEN + "no PriorityClass with name research was found",
        "PriorityClassNotFound",
        "no PriorityClass with name research was found",
    ),
    (FORBIDDEN + ACCOUNT, "ServiceAccountNotFound", ACCOUNT),
    (
        FORBIDDEN + "maximum cpu usage per Container is 200m, but limit is 500m",
        "PodRefused",
        "maximum cpu usage per Container is 200m",
    ),
    (
        FORBIDDEN + 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
        "PodRefused",
        'violates PodSecurity "restricted:latest"',
    ),
    (
        'Error creating: admission webhook "policy.example" denied the request: no GPUs on Sunday',
        "PodRefused",
        "denied the request: no GPUs on Sunday",
    ),
]


def without_pod() -> tuple[World, Raw]:
    """A run whose first Job has no pod some seconds later, and the pod that it would have."""
    world = World()
    world.settle()
    pod = world.pods.pop(JOB)
    world.passes(10)
    return world, pod


def leading_message(world: World) -> str:
    text: str = world.status["conditions"][0]["message"]
    return text


@pytest.mark.parametrize(("said", "reason", "telling"), PENDING + FINAL)
def test_what_refuses_the_pod_is_the_cause(said: str, reason: str, telling: str) -> None:
    world, pod = without_pod()
    world.warns(world.jobs[JOB], "FailedCreate", said)
    decision = world.settle()
    type_ = "Stalled" if (said, reason, telling) in FINAL else "Reconciling"
    assert world.leading == (type_, reason)
    assert leading_message(world).startswith(f"Job {JOB} cannot create its pod: ")
    assert telling in leading_message(world)
    assert "x7x2z" not in leading_message(world), "another at each try: no write for that"
    running = world.condition("Running")
    assert running is not None
    assert (running["reason"], running["message"]) == (reason, leading_message(world))
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 15
    world.pods[JOB] = pod
    world.starts(JOB)
    world.settle()
    assert world.leading == ("Running", "StepRunning")
    assert not world.is_true("Stalled")


def test_events_are_read_only_while_nothing_else_says_why() -> None:
    world = World()
    world.warnings = None
    world.settle()
    assert not world.decide().asks_warnings, "most pods run within seconds"
    pod = world.pods.pop(JOB)
    world.passes(4)
    assert world.decide().asks_warnings
    world.pods[JOB] = pod
    assert world.decide().asks_warnings, "a volume may be missing"
    world.waits("ErrImagePull", "not found")
    assert not world.decide().asks_warnings
    world.starts()
    assert not world.decide().asks_warnings
    world.warnings = {}
    del world.pods[JOB]
    assert not world.decide().asks_warnings, "they were read"


def test_an_event_of_an_earlier_pod_is_none_of_this_one() -> None:
    """A Job that has left its queue again has another start time."""
    world, _ = without_pod()
    world.warns(world.jobs[JOB], "FailedCreate", FORBIDDEN + QUOTA)
    world.passes(60)
    world.jobs[JOB]["status"] = {"startTime": world.now.isoformat()}
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")


def test_one_that_is_refused_does_not_stall_a_run_in_which_another_computes() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism={"experts": "Parallel"})
    world.at_once = 2
    for _ in range(2):
        world.settle()
        world.ends(ExitClass.DONE)
    world.settle()
    del world.pods[HIGH]
    world.warns(world.jobs[HIGH], "FailedCreate", FORBIDDEN + ACCOUNT)
    world.starts(LOW)
    world.settle()
    assert world.leading == ("Reconciling", "ServiceAccountNotFound")
    assert world.is_true("Running")


def test_a_refused_job_is_made_to_try_again() -> None:
    world, pod = without_pod()
    world.warns(world.jobs[JOB], "FailedCreate", FORBIDDEN + QUOTA)
    for count in range(1, 4):
        world.settle()
        assert world.resyncs == [JOB] * count
        world.passes(2)
        world.settle()
        assert world.resyncs == [JOB] * count, "it has just tried"
        world.passes(1)
    world.pods[JOB] = pod
    world.passes(60)
    world.settle()
    assert len(world.resyncs) == 3, "it has its pod"
    assert (world.created, world.step("prepare")["attempts"]) == ([JOB], 1)


@pytest.mark.parametrize("state", ["suspended", "deleting", "unknown"])
def test_only_a_job_that_could_make_a_pod_is(state: str) -> None:
    world, _ = without_pod()
    if state == "suspended":
        world.jobs[JOB]["spec"]["suspend"] = True
    if state == "deleting":
        world.jobs[JOB]["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.passes(8)
    world.settle()
    world.passes(60)
    world.settle()
    assert world.resyncs == ([JOB] if state == "unknown" else []), "also without rights to Events"


MOUNT = 'MountVolume.SetUp failed for volume "{}" : {}'
UNMOUNTED = [
    (
        "FailedMount",
        MOUNT.format("ca", 'configmap "bundle" not found'),
        "ConfigMapNotFound",
        f'pod {JOB}-abcde cannot mount volume "ca": configmap "bundle" not found',
    ),
    (
        "FailedMount",
        MOUNT.format("ca", "references non-existent config key: ca.crt"),
        "ConfigMapNotFound",
        'volume "ca" of ConfigMap bundle: references non-existent config key: ca.crt',
    ),
    (
        "FailedMount",
        "(combined from similar events): " + MOUNT.format("keys", 'secret "keys" not found'),
        "SecretNotFound",
        'volume "keys": secret "keys" not found',
    ),
    (
        "FailedAttachVolume",
        'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other',
        "VolumePending",
        "Multi-Attach error",
    ),
    (
        "FailedCreatePodSandBox",
        'Failed to create pod sandbox: no runtime for "gvisor" is configured',
        "PodSandboxFailed",
        'no runtime for "gvisor" is configured',
    ),
]
VOLUMES = [
    {"name": "ca", "configMap": {"name": "bundle"}},
    {"name": "keys", "secret": {"secretName": "keys"}},
]


@pytest.mark.parametrize("waits", [True, False], ids=["creating", "nothing yet"])
@pytest.mark.parametrize(("event", "said", "reason", "telling"), UNMOUNTED)
def test_what_keeps_a_pod_from_its_start_is_the_cause(
    event: str, said: str, reason: str, telling: str, waits: bool
) -> None:
    world = World()
    world.settle()
    pod = world.pods[JOB]
    pod["spec"]["volumes"] = VOLUMES
    if waits:
        world.waits("ContainerCreating", "")
    world.warns(pod, event, said)
    world.settle()
    assert world.leading == ("Reconciling", reason)
    assert telling in leading_message(world)
    ready = {"type": "PodReadyToStartContainers", "status": "True"}
    pod["status"]["conditions"] = [ready]
    world.waits("ContainerCreating", "")
    pod["status"]["conditions"] = [ready]
    world.settle()
    assert world.leading == ("Reconciling", "PodStarting"), "it is mounted, and the image pulled"


def test_what_a_claim_waits_for_is_beside_the_schedulers_words() -> None:
    world = World()
    world.settle()
    pod = world.pods[JOB]
    pod["spec"]["volumes"] = [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]
    words = "0/1 nodes: pod has unbound immediate PersistentVolumeClaims"
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": words}]
    assert world.warnings is not None
    world.warnings["claim"] = WarningEvent(
        kind="PersistentVolumeClaim",
        name="models",
        reason="ProvisioningFailed",
        message='storageclass "fast" not found',
        time=world.now,
    )
    world.settle()
    assert world.leading == ("Reconciling", "VolumePending")
    claim = 'PersistentVolumeClaim models: storageclass "fast" not found'
    assert leading_message(world) == f"{words}; {claim}"


def test_other_warnings_refuse_no_pod() -> None:
    world = World()
    world.settle()
    world.warns(world.jobs[JOB], "BackoffLimitExceeded", "no")
    assert world.warnings is not None
    assert refused_pod("Job x", next(iter(world.warnings.values()))) is None
    assert refused_pod("Job x", None) is None


def test_a_services_import_says_it_too() -> None:
    world = service()
    world.turn()
    job = world.objects["Job", "videos-model-1"]
    world.turn(10)
    world.warnings[job["metadata"]["uid"]] = WarningEvent(
        kind="Job",
        name="videos-model-1",
        reason="FailedCreate",
        message=FORBIDDEN + ACCOUNT,
        time=world.now,
    )
    world.turn()
    assert world.resyncs == ["videos-model-1"]
    assert world.condition("Stalled")[:2] == ("True", "ServiceAccountNotFound")
    ready = world.condition("Ready")
    assert ready[:2] == ("False", "ServiceAccountNotFound")
    said = f"Job videos-model-1 cannot create its pod: {ACCOUNT} in namespace team"
    assert ready[2] == said
    world.turn(60)
    assert world.resyncs == ["videos-model-1"] * 2
