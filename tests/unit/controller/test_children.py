"""What is created: Pod Security `restricted`, resources, mounts, and manifests that change only
on purpose."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from unit.controller.world import World
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.finetune import FineTuneWork, finetune_of
from wan_runtime.contract.job import ExitClass, JobSpec

GOLDEN = Path(__file__).parent / "golden"
RUNS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "wan22": {
        "model": {
            "preset": "Wan2.2-I2V-A14B",
            "source": {"persistentVolumeClaim": {"claimName": "models", "path": "wan22"}},
        },
        "store": {
            "endpoint": "https://s3.example",
            "bucket": "films",
            "prefix": "team/a",
            "caBundle": {"name": "corp-ca", "key": "bundle.pem"},
            "secretRef": {"name": "s3"},
        },
        "resources": {"cpu": "12", "memory": "128Gi", "cache": "300Gi"},
        "podTemplate": {
            "labels": {"team": "film", "app.kubernetes.io/managed-by": "somebody"},
            "annotations": {"note": "x"},
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "priorityClassName": "batch",
            "imagePullSecrets": [{"name": "registry"}],
            "serviceAccountName": "trainer",
        },
    },
}


def children(**spec: Any) -> dict[str, Any]:
    """Every child of a whole run, by kind and name."""
    world = World(**spec)
    world.at_once = 2
    made: dict[str, Any] = {}
    for _ in range(20):
        decision = world.decide()
        for manifest in decision.children:
            made[f"{manifest['kind']}/{manifest['metadata']['name']}"] = manifest
        world.look()
        if world.is_final:
            break
        for name in world.running_jobs():
            world.ends(ExitClass.DONE, name=name)
    return made


def pods(**spec: Any) -> dict[str, Any]:
    return {
        name: child["spec"]["template"]["spec"]
        for name, child in children(**spec).items()
        if child["kind"] == "Job"
    }


@pytest.mark.parametrize("run", RUNS)
def test_manifests_are_those_on_record(run: str) -> None:
    """WAN_UPDATE_GOLDEN=1 records what is made now; read the diff before committing it."""
    text = json.dumps(children(**RUNS[run]), indent=1, sort_keys=True) + "\n"
    path = GOLDEN / f"{run}.json"
    if "WAN_UPDATE_GOLDEN" in os.environ:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("run", RUNS)
def test_pods_meet_pod_security_restricted(run: str) -> None:
    """The standard's rules, one by one:
    kubernetes.io/docs/concepts/security/pod-security-standards."""
    for spec in pods(**RUNS[run]).values():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] != 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
        (container,) = spec["containers"]
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert "hostPort" not in container["ports"][0]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("run", RUNS)
def test_only_the_steps_that_compute_ask_for_a_gpu(run: str) -> None:
    for name, spec in pods(**RUNS[run]).items():
        (container,) = spec["containers"]
        gpu = container["resources"]["limits"].get("nvidia.com/gpu")
        computes = any(f"-{step}-" in name for step in ("encode", "train", "sample"))
        assert gpu == ("1" if computes else None), name
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/etc/wan", "/cache", "/tmp", "/home/wan"} <= mounts
        assert ("/dev/shm" in mounts) == computes


def test_resources_are_for_the_steps_that_hold_weights() -> None:
    """The export too: what was trained for days must not end at a memory limit that nobody can
    raise."""
    for name, spec in pods(**RUNS["wan22"]).items():
        (container,) = spec["containers"]
        heavy = not any(f"-{step}-" in name for step in ("prepare", "import"))
        assert (container["resources"]["limits"]["memory"] == "128Gi") == heavy, name
        assert ({"name": "cache", "emptyDir": {"sizeLimit": "300Gi"}} in spec["volumes"]) == heavy


def test_jobs_never_retry_on_their_own_and_never_double_a_pod() -> None:
    for name, child in children().items():
        if child["kind"] != "Job":
            continue
        spec = child["spec"]
        assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed"), name
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 120
        assert "suspend" not in spec, "Kueue owns it"
        assert "ttlSecondsAfterFinished" not in spec, "the operator reads the pod first"


def test_the_job_file_is_what_the_runtime_reads() -> None:
    made = children(**RUNS["wan22"])
    job = JobSpec.model_validate_json(made["ConfigMap/demo-train-low-noise"]["data"]["job.json"])
    assert job.step_id == "train-low-noise"
    assert job.model.path == "/models/wan22"
    assert job.store.ca_file == "/etc/wan-ca/ca.crt"
    assert finetune_of(job).dataset.buckets == (Bucket(width=1280, height=720, frames=81),)
    assert finetune_of(job).dataset.fps == 16
    assert job.output_prefix == "team/a/team/demo/5c1a7e00/train-low-noise"
    assert "prepare" in job.inputs


def test_the_job_file_has_the_method_of_the_spec() -> None:
    made = children(method={"full": {"learningRate": 2e-5}})
    for name in ("prepare", "train", "export"):
        job = JobSpec.model_validate_json(made[f"ConfigMap/demo-{name}"]["data"]["job.json"])
        work = finetune_of(job)
        assert work.lora is None
        assert work.full is not None
        assert work.full.learning_rate == 2e-5
    with pytest.raises(ValueError, match="exactly one of lora and full"):
        FineTuneWork.model_validate({**job.work.model_dump(), "full": None})


@pytest.mark.parametrize("method", ["lora", "full"])
def test_each_expert_starts_from_its_own_weights(method: str) -> None:
    def sources(**init: str) -> dict[str, str | None]:
        made = children(model={"preset": "Wan2.2-I2V-Tiny"}, method={method: {"initFrom": init}})
        found = {}
        for name in ("train-high-noise", "train-low-noise", "export"):
            job = JobSpec.model_validate_json(made[f"ConfigMap/demo-{name}"]["data"]["job.json"])
            chosen = finetune_of(job).lora or finetune_of(job).full
            assert chosen is not None
            found[name] = chosen.init_from
        return found

    assert set(sources(uri="s3://wan/a").values()) == {"s3://wan/a"}
    assert sources(lowNoise="s3://wan/low") == {
        "train-high-noise": None, "train-low-noise": "s3://wan/low", "export": None,
    }  # fmt: skip


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_first_step_verifies_what_each_expert_starts_from(method: str) -> None:
    def verified(preset: str, step: str = "prepare", **init: str) -> Any:
        spec = {"initFrom": init} if init else {}
        made = children(model={"preset": preset}, method={method: spec})
        job = JobSpec.model_validate_json(made[f"ConfigMap/demo-{step}"]["data"]["job.json"])
        return finetune_of(job).starts

    one, two = "Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny"
    assert verified(one, uri="s3://wan/a") == {"Only": "s3://wan/a"}
    both = {"HighNoise": "s3://wan/a", "LowNoise": "s3://wan/a"}
    assert verified(two, uri="s3://wan/a") == both
    assert verified(two, lowNoise="s3://wan/low") == {"LowNoise": "s3://wan/low"}
    assert verified(one) is None
    assert verified(one, "train", uri="s3://wan/a") is None


def test_deterministic_training_reaches_the_runtime_and_its_pod_alone() -> None:
    for asked in (True, False):
        made = children(training={"deterministic": asked})
        job = JobSpec.model_validate_json(made["ConfigMap/demo-train"]["data"]["job.json"])
        assert finetune_of(job).training.deterministic == asked
        told = {
            name: entry["value"]
            for name, child in made.items()
            if name.startswith("Job/")
            for entry in child["spec"]["template"]["spec"]["containers"][0]["env"]
            if entry["name"] == "CUBLAS_WORKSPACE_CONFIG"
        }
        assert told == ({"Job/demo-train-1": ":4096:8"} if asked else {})


def test_the_mean_and_dropped_captions_reach_the_runtime() -> None:
    made = children(training={"ema": {}, "captionDropoutPercent": 10})
    job = JobSpec.model_validate_json(made["ConfigMap/demo-train"]["data"]["job.json"])
    training = finetune_of(job).training
    assert (training.ema_decay, training.caption_dropout) == (0.999, 0.1)
    made = children()
    job = JobSpec.model_validate_json(made["ConfigMap/demo-train"]["data"]["job.json"])
    training = finetune_of(job).training
    assert (training.ema_decay, training.caption_dropout) == (None, 0.0)


@pytest.mark.parametrize(
    ("setting", "source"),
    [
        ("models", {"persistentVolumeClaim": {"claimName": "models"}}),
        ("/var/models", {"hostPath": {"path": "/var/models", "type": "Directory"}}),
    ],
)
def test_imported_models_are_kept_where_the_settings_say(setting: str, source: Any) -> None:
    from dataclasses import replace

    from unit.controller.world import SETTINGS

    world = World(
        replace(SETTINGS, model_cache=setting),
        model={"preset": "Wan2.1-I2V-Tiny", "source": {"s3": "s3://wan/models/tiny"}},
        validation={"samples": 1},
    )
    world.at_once = 2
    seen = set()
    for _ in range(20):
        world.settle()
        if world.is_final:
            break
        for name in world.running_jobs():
            spec = world.jobs[name]["spec"]["template"]["spec"]
            volumes = [v for v in spec["volumes"] if v["name"] == "model-cache"]
            step = name.split("-")[1]
            if volumes:
                seen.add(step)
                assert volumes == [{"name": "model-cache", **source}]
                variables = {v["name"]: v.get("value") for v in spec["containers"][0]["env"]}
                assert variables["WAN_MODEL_CACHE"] == "/model-cache"
            world.ends(ExitClass.DONE, name=name)
    assert seen == {"encode", "train", "sample"}


def test_our_labels_win_over_the_templates() -> None:
    labels = children(**RUNS["wan22"])["Job/demo-prepare-1"]["spec"]["template"]["metadata"][
        "labels"
    ]
    assert labels["team"] == "film"
    assert labels["app.kubernetes.io/managed-by"] == "wan-operator", "the watch selects by it"


def test_kueues_queue_is_passed_on() -> None:
    world = World()
    world.cr["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team-queue"}
    world.settle()
    labels = world.jobs["demo-prepare-1"]["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "team-queue"


def test_the_settings_ca_is_not_used_for_a_store_of_the_users() -> None:
    from dataclasses import replace

    from unit.controller.world import SETTINGS

    settings = replace(SETTINGS, store_ca_config_map="platform-ca")
    ours, theirs = World(settings), World(settings, store={"endpoint": "https://else.example"})
    ours.settle()
    theirs.settle()

    def volumes(world: World) -> set[str]:
        spec = world.jobs["demo-prepare-1"]["spec"]["template"]["spec"]
        return {volume["name"] for volume in spec["volumes"]}

    assert "store-ca" in volumes(ours)
    assert "store-ca" not in volumes(theirs)
