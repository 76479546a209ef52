"""From a WanInferenceService to what runs, and what its status says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from unit.controller.service_world import World, example, finetune, report, tiny
from wan_operator.reconcile.observed import Refusal
from wan_runtime.contract.report import Startup, WorkerReport


def worker(name: str = "w", **values: Any) -> WorkerReport:
    return WorkerReport(**{"name": name, "ready": True, "ranks": 1, "seen_seconds": 1, **values})


def test_from_nothing_to_serving() -> None:
    world = World(tiny())
    world.turn()
    assert set(world.objects) == {
        ("ConfigMap", "demo-gateway"),
        ("ConfigMap", "demo-rollout"),
        ("ConfigMap", f"demo-{world.status['revision']}"),
        ("NetworkPolicy", "demo"),
        ("NetworkPolicy", "demo-pages"),
        ("PodDisruptionBudget", "demo-gateway"),
        ("PodDisruptionBudget", "demo-worker"),
        ("Service", "demo"),
        ("Deployment", "demo-gateway"),
        ("Deployment", "demo-worker"),
    }
    assert world.condition("Ready")[:2] == ("False", "GatewayStarting")
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition("Reconciling") == ("", "", "")
    assert world.status["url"] == "http://demo.team.svc"
    assert world.status["ready"] == "1/1"
    assert world.status["selector"] == (
        "wan-operator.dev/service=demo,app.kubernetes.io/component=worker"
    )
    assert world.events == ["http://demo.team.svc answers, 1/1 workers"]


def test_what_is_mounted_is_made_before_what_mounts_it() -> None:
    kinds = [each["kind"] for each in World(tiny()).look().children]
    assert kinds.index("Deployment") > max(i for i, kind in enumerate(kinds) if kind == "ConfigMap")


def test_pods_are_restricted() -> None:
    world = World(tiny())
    world.turn()
    for part in ("gateway", "worker"):
        found = world.deployment(part)
        assert found is not None
        spec = found["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        [container] = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_worker_has_time_to_end_its_longest_video() -> None:
    world = World(example("effects", adapters=[], effects=[]), WAN_GPU_TYPE="H100-80GB")
    world.cr["spec"]["model"]["source"] = {"persistentVolumeClaim": {"claimName": "models"}}
    world.cr["spec"]["autoscaling"] = None
    world.turn()
    found = world.deployment("worker")
    assert found is not None
    spec = found["spec"]["template"]["spec"]
    grace = spec["terminationGracePeriodSeconds"]
    arguments = spec["containers"][0]["args"]
    assert arguments[arguments.index("--grace") + 1] == str(grace)
    assert grace > world.status["effective"]["predictedSeconds"]
    assert grace == world.status["effective"]["drainSeconds"] + 30


@pytest.mark.parametrize(("share", "stays"), [(0.7, False), (0.95, True), (1.4, True), (2, False)])
def test_a_drain_that_does_as_well_stays(share: float, stays: bool) -> None:
    """Its workers would be replaced for another."""
    world = World(example("effects", adapters=[], effects=[]), WAN_GPU_TYPE="H100-80GB")
    world.cr["spec"]["autoscaling"] = None
    world.turn()
    effective = world.status["effective"]
    wanted, other = effective["drainSeconds"], round(share * effective["drainSeconds"])
    effective["drainSeconds"] = other
    world.turn()
    assert world.status["effective"]["drainSeconds"] == (other if stays else wanted)


def test_a_drain_takes_one_pod_of_a_part_and_any_that_is_not_ready() -> None:
    world = World(tiny())
    world.turn()
    for part in ("gateway", "worker"):
        spec = world.objects["PodDisruptionBudget", f"demo-{part}"]["spec"]
        assert spec["maxUnavailable"] == 1
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        labels = world.objects["Deployment", f"demo-{part}"]["spec"]["selector"]
        assert spec["selector"] == labels


def test_an_effect_that_is_edited_replaces_gateways_and_no_worker() -> None:
    world = World(tiny())
    world.settle()
    revision, config = world.status["revision"], world.deployment("gateway")
    world.edit(effects=[{"name": "plain"}], limits={"queueSeconds": 60})
    world.settle()
    assert world.status["revision"] == revision
    assert world.deployment("gateway") != config
    assert [each["name"] for each in world.served()["effects"]] == ["plain"]
    assert world.served()["limits"]["queueSeconds"] == 60
    assert not world.served("worker").get("effects")


def test_a_fine_tune_is_waited_for() -> None:
    world = World(example("tiny"))
    world.turn()
    assert world.objects == {}
    assert world.condition("Stalled")[1:] == (
        "FineTuneNotFound", "WanFineTune demo does not exist in namespace team",
    )  # fmt: skip
    world.finetunes["demo"] = finetune("demo", done=False)
    world.turn()
    assert world.condition("Reconciling")[1:] == (
        "WaitingForFineTune", "WanFineTune demo is not done: train 40/60",
    )  # fmt: skip
    assert world.condition("AdaptersReady")[:2] == ("False", "WaitingForFineTune")
    assert world.condition("Ready")[0] == "False"
    world.finetunes["demo"] = finetune("demo")
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition("AdaptersReady")[:2] == ("True", "FineTunesDone")
    [adapter] = world.served("worker")["adapters"]
    assert adapter["artifact"]["sha256"] == "a" * 64
    assert world.status["adapters"][0]["artifact"]["sha256"] == "a" * 64


def test_a_fine_tune_that_is_made_again_is_served_until_it_is_done() -> None:
    world = World(example("tiny"))
    world.finetunes["demo"] = finetune("demo")
    world.settle()
    first = world.status["revision"]
    world.finetunes["demo"] = finetune("demo", done=False)
    world.settle()
    assert world.status["revision"] == first
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.status["adapters"][0]["message"] == "WanFineTune demo is not done: train 40/60"
    world.finetunes["demo"] = finetune("demo", sha256="b" * 64)
    world.settle()
    assert world.status["revision"] != first
    assert world.served("worker")["adapters"][0]["artifact"]["sha256"] == "b" * 64


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"preset": "Wan2.2-I2V-Tiny"}}, "is of Wan2.2-I2V-Tiny, the service of"),
        ({"method": {"full": {}}}, "does not make an adapter: its method is not lora"),
    ],
)
def test_an_unsuitable_fine_tune_is_told(changes: dict[str, Any], said: str) -> None:
    world = World(example("tiny"))
    world.finetunes["demo"] = finetune("demo", **changes)
    world.turn()
    assert world.objects == {}
    status, reason, message = world.condition("Stalled")
    assert (status, reason) == ("True", "FineTuneUnsuitable")
    assert said in message


def test_a_full_fine_tune_is_served_in_place_of_the_base() -> None:
    cr = tiny()
    cr["spec"]["model"]["fineTuneRef"] = {"name": "whole"}
    world = World(cr)
    world.finetunes["whole"] = finetune("whole", method={"full": {}})
    world.settle()
    assert world.served("worker")["weights"]["sha256"] == "a" * 64
    assert world.status["weights"]["sha256"] == "a" * 64


def test_what_the_settings_lack_is_told() -> None:
    world = World(tiny(database=None), WAN_DATABASE_SECRET="")
    decision = world.turn()
    assert world.objects == {}
    assert world.condition("Stalled")[1] == "DatabaseNotConfigured"
    assert "spec.database.secretRef.name" in world.condition("Stalled")[2]
    assert len(decision.events) == 1
    assert world.look().events == ()


def test_a_video_that_cannot_fit_is_refused_before_a_worker_starts() -> None:
    cr = example("canary")
    cr["spec"]["model"].pop("fineTuneRef")
    cr["spec"]["workers"]["gpus"] = 1
    small = '[{"name":"small","products":[],"memoryGib":12,"bf16Tflops":200,"fp8Tflops":400,'
    small += '"bandwidthGbs":800,"pricePerHour":1}]'
    world = World(cr, WAN_GPU_CATALOGUE=small, WAN_GPU_TYPE="small")
    world.turn()
    assert world.objects == {}
    assert world.condition("Stalled")[1] == "DoesNotFit"
    said = world.condition("Stalled")[2]
    assert "and small has 12: it fits with " in said
    assert "or a GPU of type L4-24GB. To try it all the same, set" in said
    world.cr["metadata"]["annotations"] = {"wan-operator.dev/fit-check": "disabled"}
    world.turn()
    assert world.running("worker")


def test_a_limit_that_cannot_fit_is_refused_with_what_would() -> None:
    cr = example("canary", limits={"frames": 241})
    cr["spec"]["model"].pop("fineTuneRef")
    product = "NVIDIA-L4"
    cr["spec"]["workers"]["podTemplate"] = {"nodeSelector": {"nvidia.com/gpu.product": product}}
    world = World(cr)
    world.turn()
    assert world.condition("Stalled")[1] == "DoesNotFit"
    said = world.condition("Stalled")[2]
    assert said.startswith("the largest video that spec.limits.frames allows, of 1280x720 and 241 ")
    most = re.search(r"L4-24GB has 22: it fits with (\d+) frames, or .*a GPU of type ", said)
    assert most is not None, said
    world.edit(limits={"frames": int(most[1])})
    world.turn()
    assert world.running("worker")


def test_a_service_that_was_switched_off_by_annotation_is_left_alone() -> None:
    world = World(tiny())
    world.cr["metadata"]["annotations"] = {"wan-operator.dev/reconcile": "disabled"}
    assert world.turn().status is None
    assert world.objects == {}


def test_a_child_that_is_refused_is_told_and_the_rest_runs() -> None:
    world = World(tiny())
    world.refused = {"Ingress/demo": Refusal("RequestRefused", "no such class")}
    world.settle()
    assert world.condition("Stalled") == ("True", "RequestRefused", "no such class")
    assert world.status["readyReplicas"] == 1


def test_an_ingress_comes_and_goes_with_its_field() -> None:
    world = World(tiny())
    gateway = world.cr["spec"]["gateway"]
    world.edit(gateway=gateway | {"ingress": {"host": "videos.example.com", "tlsSecretName": "t"}})
    world.settle()
    assert ("Ingress", "demo") in world.objects
    assert world.status["url"] == "https://videos.example.com"
    assert world.served()["publicUrl"] == "https://videos.example.com"
    world.edit(gateway=gateway | {"httpRoute": {"parentRefs": [{"name": "public"}]}})
    world.settle()
    assert ("Ingress", "demo") not in world.objects
    [rule] = world.objects["HTTPRoute", "demo"]["spec"]["rules"]
    assert "timeouts" not in rule, "there are Gateways that take no route with them"


def test_private_receivers_of_webhooks_reach_the_gateways() -> None:
    world = World(tiny())
    hosts = ["receiver.team-a.svc", "10.20.0.0/16"]
    world.edit(gateway=world.cr["spec"]["gateway"] | {"webhookPrivateHosts": hosts})
    world.settle()
    assert world.served()["webhookPrivateHosts"] == hosts


def test_workers_tell_what_they_measured() -> None:
    world = World(tiny())
    world.settle()
    pod = world.pod(
        "worker",
        conditions=[
            {
                "type": "PodScheduled",
                "status": "True",
                "lastTransitionTime": "2026-01-01T00:00:02+00:00",
            }
        ],
        containerStatuses=[
            {
                "name": "worker",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:05+00:00"}},
            }
        ],
    )
    startup = Startup(load_seconds=7, compile_seconds=1, warm_up_seconds=2)
    world.report = report(
        workers=(
            worker(
                pod=pod["metadata"]["name"],
                startup=startup,
                seconds_per_clip={"128x96": 1.5},
                peak_gib=60.5,
                attention="SDPA (named)",
            ),
            worker("other", seconds_per_clip={"128x96": 2.5}, peak_gib=61.0, attention="SDPA"),
        )
    )
    world.turn()
    assert world.status["sizes"] == [{"size": "128x96", "seconds": 2.0}]
    assert world.status["peakGib"] == 61.0
    assert world.status["attention"] == "SDPA, SDPA (named)"
    assert world.status["startup"] == {
        "scheduling": 2.0, "pulling": 3.0, "loading": 7.0, "compiling": 1.0, "warming": 2.0,
    }  # fmt: skip


def waiting(**state: Any) -> dict[str, Any]:
    return {
        "containerStatuses": [
            {"name": "worker", "ready": False, "restartCount": 0, "lastState": {}} | state
        ]
    }


@pytest.mark.parametrize(
    ("status", "stalled", "reason", "said"),
    [
        (
            waiting(state={"waiting": {"reason": "ErrImagePull", "message": "no route"}}),
            "", "ImagePullBackOff", "image wan-runtime:1 cannot be pulled: no route",
        ),
        (
            waiting(state={"waiting": {"reason": "CreateContainerConfigError",
                                       "message": 'secret "wan-database" not found'}}),
            "", "SecretNotFound", "wan-database",
        ),
        (
            waiting(state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1,
                    lastState={"terminated": {"exitCode": 10, "message": "x\nadapter a: bad"}}),
            "True", "WorkerFailed", "exit code 10: adapter a: bad",
        ),
        (
            waiting(state={"running": {}}, restartCount=1,
                    lastState={"terminated": {"exitCode": 30, "message": "no gang"}}),
            "", "WorkersStarting", "0 of 1 workers take videos",
        ),
    ],
    ids=["image", "secret", "wrong input", "starts again"],
)  # fmt: skip
def test_what_keeps_a_worker_is_told(
    status: dict[str, Any], stalled: str, reason: str, said: str
) -> None:
    world = World(tiny())
    world.settle()
    world.roll(ready=False)
    gateway = world.deployment("gateway")
    assert gateway is not None
    gateway["status"]["readyReplicas"] = 2
    world.pod("worker", **status)
    world.turn()
    assert world.condition("Ready")[1] == reason
    assert said in world.condition("Ready")[2]
    assert world.condition("Stalled")[0] == stalled


def test_a_gateway_that_ends_is_told_as_such() -> None:
    world = World(tiny())
    world.settle()
    world.roll(ready=False)
    said = "PostgreSQL at db:5432 (database x, user wan) refuses: correct user or password"
    [status] = waiting(
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 10, "message": said}},
    )["containerStatuses"]
    world.pod("gateway", containerStatuses=[status | {"name": "gateway"}])
    world.turn()
    for type_ in ("Stalled", "Ready"):
        reason, message = world.condition(type_)[1:]
        assert (reason, said in message) == ("GatewayFailed", True)


def test_what_keeps_a_running_worker_is_told_in_its_words() -> None:
    world = World(tiny())
    world.settle()
    world.roll(ready=False)
    gateway = world.deployment("gateway")
    assert gateway is not None
    gateway["status"]["readyReplicas"] = 2
    problem = "http://minio:9000 did not answer for 180 s"
    world.report = report(
        workers=(worker(pod="demo-0"), worker(pod="demo-1", ready=False, problem=problem))
    )
    world.turn()
    assert world.condition("Ready") == (
        *("False", "WorkersStarting", f"0 of 1 workers take videos: demo-1: {problem}"),
    )
