"""The pod template reaches the pods of steps, gateways and workers alike."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pod_templates import FULL
from unit.controller import service_world
from unit.controller.world import World
from wan_operator.resources.labels import SPEC_HASH, content_hash
from wan_operator.resources.pods import as_before
from wan_runtime.artifacts import credentials
from wan_runtime.contract.job import ExitClass
from wan_runtime.serving import database_url, webhook_secret

Raw = dict[str, Any]


def job(**spec: Any) -> Raw:
    world = World(**spec)
    world.settle()
    pod: Raw = world.jobs["demo-prepare-1"]["spec"]["template"]["spec"]
    return pod


def deployments(template: Raw, **resources: Any) -> dict[str, Raw]:
    """Pods of a service's parts."""
    part = {"podTemplate": template, "resources": resources}
    keys = {"keysSecretRef": {"name": "wan-keys"}}
    world = service_world.World(service_world.tiny(gateway=keys | part, workers=part))
    world.settle()
    return {
        part: world.objects["Deployment", f"demo-{part}"]["spec"]["template"]["spec"]
        for part in ("gateway", "worker")
    }


def all_pods(template: Raw, **resources: Any) -> dict[str, Raw]:
    run = {"podTemplate": template, "resources": resources}
    return {"step": job(**run), **deployments(template, **resources)}


def test_every_field_is_in_every_pod() -> None:
    for name, pod in all_pods(FULL).items():
        for field in ("affinity", "runtimeClassName", "nodeSelector", "tolerations"):
            assert pod[field] == FULL[field], (name, field)
        listed, counted = pod["topologySpreadConstraints"]
        assert listed == FULL["topologySpreadConstraints"][0]
        selector = counted.pop("labelSelector")
        assert counted == FULL["topologySpreadConstraints"][1]
        assert "demo" in selector["matchLabels"].values(), "pods of the same resource"


def test_gateways_stay_apart_unless_the_template_spreads_them() -> None:
    own = deployments({})["gateway"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in own] == ["kubernetes.io/hostname"]
    assert "topologySpreadConstraints" not in deployments({})["worker"]


def test_the_workers_of_a_canary_count_as_workers() -> None:
    [_, spread] = deployments(FULL)["worker"]["topologySpreadConstraints"]
    [parts] = spread["labelSelector"]["matchExpressions"]
    assert parts["values"] == ["worker", "canary"]


IDS = {"runAsUser", "runAsGroup", "fsGroup"}


def test_the_user_is_that_of_the_image_by_default() -> None:
    for pod in all_pods({}).values():
        assert {pod["securityContext"][id] for id in IDS} == {10001}
        [container] = pod["containers"]
        assert "USER" not in {each["name"] for each in container["env"]}


@pytest.mark.parametrize("given", [{}, {"runAsUser": 1000650000, "supplementalGroups": [7]}])
def test_no_id_is_fixed_that_the_template_leaves_to_the_namespace(given: Raw) -> None:
    restricted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for pod in all_pods({"securityContext": given}).values():
        context = dict(pod["securityContext"])
        assert context.pop("fsGroupChangePolicy") == "OnRootMismatch"
        assert context == restricted | given
        [container] = pod["containers"]
        assert {"name": "USER", "value": "wan"} in container["env"]


def test_a_cpu_limit_bounds_the_request() -> None:
    for name, pod in all_pods({}, cpuLimit="50m").items():
        [container] = pod["containers"]
        resources = container["resources"]
        assert resources["limits"]["cpu"] == resources["requests"]["cpu"] == "50m", name
    for pod in all_pods({}).values():
        [container] = pod["containers"]
        assert "cpu" not in container["resources"]["limits"]


def test_a_template_that_says_nothing_changes_no_revision() -> None:
    def revision(template: Raw) -> Any:
        world = service_world.World(service_world.tiny(workers={"podTemplate": template}))
        world.settle()
        return world.status["revision"]

    nothing: Raw = {"annotations": {}, "affinity": {}, "topologySpreadConstraints": []}
    assert revision(nothing) == revision({})
    assert revision({"affinity": {"nodeAffinity": {}}}) == revision({})


def storage(pod: Raw) -> Any:
    return pod["containers"][0]["resources"]["requests"].get("ephemeral-storage")


def test_a_pod_requests_the_storage_that_its_scratch_needs() -> None:
    assert {name: storage(pod) for name, pod in all_pods({}).items()} == {
        "step": "512Mi",
        "gateway": None,
        "worker": "512Mi",
    }
    assert storage(deployments({}, cache="7Gi")["worker"]) == "7Gi"
    model = {"preset": "Wan2.1-I2V-14B-720P", "source": {"s3": "s3://models/720p"}}
    world = World(model=model, resources={"cache": "300Gi"})
    world.at_once = 2
    world.settle()
    for step in ("prepare", "import"):
        assert storage(world.jobs[f"demo-{step}-1"]["spec"]["template"]["spec"]) == "30Gi"
        world.ends(ExitClass.DONE, name=f"demo-{step}-1")
    world.settle()
    assert storage(world.jobs["demo-encode-1"]["spec"]["template"]["spec"]) == "300Gi"


def test_a_pod_in_a_queue_of_kueue_requests_no_storage() -> None:
    """Its ClusterQueue may not cover it, and would admit nothing."""
    world = World()
    world.cr["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    world.settle()
    assert storage(world.jobs["demo-prepare-1"]["spec"]["template"]["spec"]) is None


@pytest.mark.parametrize("age", [0, 1])
def test_a_job_that_an_earlier_release_made_is_not_replaced(age: int) -> None:
    world = World()
    world.settle()
    job = world.jobs["demo-prepare-1"]
    job["spec"]["template"]["spec"] = as_before(job["spec"]["template"]["spec"])[age]
    job["metadata"]["annotations"][SPEC_HASH] = content_hash(job["spec"])
    world.settle()
    assert world.running_jobs() == ["demo-prepare-1"]
    world.edit(podTemplate={"runtimeClassName": "nvidia"})
    world.settle()
    assert world.running_jobs() == ["demo-prepare-2"]


def test_an_edited_revision_is_put_right() -> None:
    world = service_world.World(service_world.tiny())
    world.settle()
    name = f"demo-{world.status['revision']}"
    kept = world.objects["ConfigMap", name]
    before = copy.deepcopy(kept["data"])
    kept["data"]["worker.json"] = kept["data"]["worker.json"].replace("10001", "10002")
    world.settle()
    assert world.objects["ConfigMap", name]["data"] == before
    assert "10002" not in str(world.objects["Deployment", "demo-worker"])


def test_pods_get_a_session_token_and_follow_their_secrets() -> None:
    token = {"key": "sessionToken", "optional": True}
    for name, pod in all_pods({}).items():
        secret = "minio" if name == "step" else "wan-store"
        [container] = pod["containers"]
        env = {each["name"]: each for each in container["env"]}
        given = env["AWS_SESSION_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert given == token | {"name": secret}
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert mounts["store-secret"] == env["WAN_STORE_CREDENTIALS"]["value"]
        assert env["WAN_STORE_CREDENTIALS"]["name"] == credentials.FOLDER
        sources = {each["name"]: each.get("secret") for each in pod["volumes"]}
        assert sources["store-secret"] == {"secretName": secret, "optional": True}
        if name != "step":
            url = f"{mounts['database-secret']}/url"
            assert env[database_url.FILE]["value"] == url
            assert sources["database-secret"] == {"secretName": "wan-database", "optional": True}


def test_a_gateway_follows_the_secret_of_its_webhooks_once_it_changes_anyway() -> None:
    """Made by a release that had it in a variable alone, its pods are not replaced for it."""
    cr = service_world.tiny()
    cr["spec"]["gateway"]["webhookSecretRef"] = {"name": "signing"}
    world = service_world.World(cr)
    world.settle()
    deployment = world.objects["Deployment", "demo-gateway"]
    pod = deployment["spec"]["template"]["spec"]
    [only] = pod["containers"]
    source = {"secretName": "signing", "optional": True}
    assert {"name": "webhook-secret", "secret": source} in pod["volumes"]
    [mount] = (each for each in only["volumeMounts"] if each["name"] == "webhook-secret")
    file = {"name": webhook_secret.FILE, "value": f"{mount['mountPath']}/secret"}
    only["env"].remove(file)
    only["volumeMounts"].remove(mount)
    pod["volumes"] = [each for each in pod["volumes"] if each["name"] != "webhook-secret"]
    deployment["metadata"]["annotations"][SPEC_HASH] = content_hash({"spec": deployment["spec"]})
    before = copy.deepcopy(deployment["spec"]["template"])
    world.settle()
    assert world.objects["Deployment", "demo-gateway"]["spec"]["template"] == before
    world.settings = service_world.settings(WAN_OPERATOR_IMAGE="wan-operator:2")
    world.settle()
    after = world.objects["Deployment", "demo-gateway"]["spec"]["template"]
    assert file in after["spec"]["containers"][0]["env"]


def test_gateways_of_an_earlier_release_follow_it_once_they_change_anyway() -> None:
    world = service_world.World(service_world.tiny())
    world.settle()
    deployment = world.objects["Deployment", "demo-gateway"]
    deployment["spec"]["template"]["spec"], _ = as_before(deployment["spec"]["template"]["spec"])
    content = {"spec": deployment["spec"]}
    deployment["metadata"]["annotations"][SPEC_HASH] = content_hash(content)
    before = copy.deepcopy(deployment["spec"]["template"])
    world.settle()
    assert world.objects["Deployment", "demo-gateway"]["spec"]["template"] == before
    world.settings = service_world.settings(WAN_OPERATOR_IMAGE="wan-operator:2")
    world.settle()
    assert "store-secret" in str(world.objects["Deployment", "demo-gateway"]["spec"]["template"])
