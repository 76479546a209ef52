"""The CRD on a real API server: what it takes, what it stores, what it refuses, and how it says
so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.apiserver import ApiError, ApiServer
from wan_operator.api.v1alpha1.common import Artifact, Condition
from wan_operator.api.v1alpha1.finetune import (
    NAME_LIMIT,
    Effective,
    EffectiveStore,
    LastFailure,
    ProgressStatus,
    StepStatus,
    WanFineTuneSpec,
    WanFineTuneStatus,
)

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "wan-operator.dev_wanfinetunes.yaml"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
INVALID = sorted((ROOT / "examples" / "invalid").glob("*.yaml"))
GROUP = "/apis/wan-operator.dev/v1alpha1"

Manifest = dict[str, Any]


def load(path: Path) -> Manifest:
    found: Manifest = yaml.safe_load(path.read_text())
    return found


def minimal(name: str = "run", **spec: Any) -> Manifest:
    manifest = load(ROOT / "examples" / "finetune-minimal.yaml")
    manifest["metadata"]["name"] = name
    manifest["spec"] |= spec
    return manifest


class Runs:
    """The WanFineTunes of one namespace."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self.path = f"{GROUP}/namespaces/{namespace}/wanfinetunes"

    def create(self, manifest: Manifest) -> Manifest:
        found: Manifest = self.server.request("POST", self.path, manifest)
        return found

    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.server.request("GET", self.path)["items"]]

    def patch(self, name: str, body: Manifest, subresource: str = "") -> Manifest:
        found: Manifest = self.server.request(
            "PATCH",
            f"{self.path}/{name}{subresource}",
            body,
            content_type="application/merge-patch+json",
        )
        return found

    def kubectl(self, *arguments: str, **options: Any) -> Any:
        return self.server.kubectl("-n", self.namespace, *arguments, **options)


@pytest.fixture(scope="session", autouse=True)
def crd(apiserver: ApiServer) -> Manifest:
    """Applied as a user would, and established."""
    apiserver.kubectl("apply", "-f", str(CRD))
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD))
    found: Manifest = apiserver.request(
        "GET",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/wanfinetunes.wan-operator.dev",
    )
    return found


@pytest.fixture
def runs(apiserver: ApiServer, namespace: str) -> Runs:
    return Runs(apiserver, namespace)


def test_the_server_finds_nothing_to_complain_about(crd: Manifest) -> None:
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    assert crd["spec"]["versions"] == load(CRD)["spec"]["versions"], (
        "the server stored other than we wrote"
    )


def test_short_name_and_category(runs: Runs) -> None:
    runs.create(minimal("found"))
    assert "found" in runs.kubectl("get", "wft").stdout
    assert "found" in runs.kubectl("get", "wan").stdout


# -- What is taken


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_taken(runs: Runs, example: Path) -> None:
    dry = runs.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(example))
    assert "created (server dry run)" in dry.stdout
    assert dry.stderr == ""
    assert runs.names() == []
    runs.kubectl("apply", "--validate=strict", "-f", str(example))
    assert runs.names() == [load(example)["metadata"]["name"]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_models_and_server_agree_on_the_defaults(runs: Runs, example: Path) -> None:
    """Whoever reads the spec sees the same run, whether the server or pydantic fills it in."""
    wanted = load(example)
    stored = runs.create(wanted)["spec"]
    assert WanFineTuneSpec.model_validate(stored) == WanFineTuneSpec.model_validate(wanted["spec"])
    assert sent_is_kept(wanted["spec"], stored)


def sent_is_kept(sent: Any, stored: Any) -> bool:
    if isinstance(sent, dict):
        return all(
            key in stored and sent_is_kept(value, stored[key]) for key, value in sent.items()
        )
    return bool(sent == stored)


DEFAULTS = {
    "checkpoint": {"everySteps": 100, "keepLast": 2},
    "dataset": {
        "columns": {
            "controlVideo": "control_video",
            "firstFrame": "input_image",
            "prompt": "prompt",
            "source": "source",
            "vaceVideo": "vace_video",
            "video": "video",
        },
        "conditioning": "FirstFrame",
        "format": "DiffSynth",
        "rejectedClips": "Fail",
        "source": "s3://wan/datasets/demo",
        "split": {"seed": 0, "trainPercent": 90},
    },
    "method": {
        "lora": {
            "dropoutPercent": 0,
            "learningRate": 0.0001,
            "rank": 32,
            "targetModules": ["q", "k", "v", "o", "ffn.0", "ffn.2"],
        }
    },
    "model": {"preset": "Wan2.1-I2V-Tiny"},
    "output": {"formats": ["DiffSynth"]},
    "parallelism": {"gpusPerNode": 1, "nodes": 1},
    "retries": {"infrastructure": 5, "outOfMemory": 0},
    "suspend": False,
    "training": {
        "attention": "Auto",
        "basePrecision": "BF16",
        "batchSize": 1,
        "datasetRepeat": 10,
        "gradientAccumulation": 1,
        "gradientCheckpointing": "Full",
        "lossWeighting": "Uniform",
        "maxGradientNorm": 1,
        "optimizer": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "weightDecay": 0.01},
        "schedule": {"type": "Constant", "warmupSteps": 0},
        "seed": 0,
        "tiledVae": False,
        "timestepSampling": "Uniform",
    },
    "validation": {"everySteps": 50, "samples": 1, "seed": 0},
}


def test_defaults_are_stored(runs: Runs) -> None:
    assert runs.create(minimal())["spec"] == DEFAULTS


@pytest.mark.parametrize(
    "given",
    [
        {"training": {"steps": 5}},
        {"method": {"lora": {"rank": 8}}},
        {"dataset": {"source": "s3://wan/other", "frames": 17, "split": {"seed": 1}}},
        {"validation": {"samples": 0}},
        {"suspend": True},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_field_given_keeps_the_defaults_beside_it(runs: Runs, given: Manifest) -> None:
    assert runs.create(minimal(**given))["spec"] == overlaid(DEFAULTS, given)


def overlaid(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: overlaid(below.get(key), value) for key, value in above.items()}


@pytest.mark.parametrize(
    "nulls",
    [
        {"method": None},
        {"training": None},
        {"training": {"steps": None, "attention": None}},
        {"method": {"lora": {"alpha": None, "rank": None}}},
        {"method": {"lora": {}, "full": None}},
        {"experts": None, "store": None, "podTemplate": None, "activeDeadlineSeconds": None},
        {"model": {"preset": "Wan2.1-I2V-Tiny", "source": None}},
    ],
    ids=lambda value: "-".join(value),
)
def test_null_counts_as_left_out(runs: Runs, nulls: Manifest) -> None:
    assert runs.create(minimal(**nulls))["spec"] == DEFAULTS


def test_null_for_a_required_field_is_refused(runs: Runs) -> None:
    with pytest.raises(ApiError, match=r"spec\.model\.preset: Required value"):
        runs.create(minimal(model={"preset": None}))


def test_a_name_of_the_limit_is_taken(runs: Runs) -> None:
    runs.create(minimal("n" * NAME_LIMIT))
    with pytest.raises(ApiError, match=f"at most {NAME_LIMIT} characters"):
        runs.create(minimal("n" * (NAME_LIMIT + 1)))


# -- What is refused


def expectation(path: Path) -> tuple[str, str]:
    """Message and field that the comments at the top of an invalid example name."""
    head = path.read_text()
    message = re.match(r"# refused: (.+)\n# field: (.+)\n", head)
    assert message, f"{path.name} must begin with '# refused: <message>' and '# field: <path>'"
    return message[1], message[2]


@pytest.mark.parametrize("example", INVALID, ids=lambda path: path.stem)
def test_invalid_example_is_refused(runs: Runs, example: Path) -> None:
    message, field = expectation(example)
    with pytest.raises(ApiError) as refused:
        runs.create(load(example))
    assert refused.value.code == 422
    assert field in refused.value.fields
    assert message in refused.value.message
    assert runs.names() == []


@pytest.mark.parametrize("example", INVALID, ids=lambda path: path.stem)
def test_invalid_example_is_wrong_in_one_way_only(example: Path) -> None:
    """Each is the minimal run and one mistake: no other rule can stand in for the one shown."""
    sound = minimal()["spec"]
    spec = load(example)["spec"]
    changed = {key for key in sound | spec if spec.get(key) != sound.get(key)}
    assert len(changed) == (0 if example.stem.startswith("name") else 1), changed


def test_kubectl_shows_field_and_message(runs: Runs) -> None:
    done = runs.kubectl("apply", "-f", str(ROOT / "examples/invalid/frames.yaml"), check=False)
    assert done.returncode == 1
    assert "spec.dataset.frames: " in done.stderr
    assert "57 or 61, not 60" in done.stderr


def test_an_unknown_field_is_refused_by_kubectl(runs: Runs) -> None:
    manifest = minimal(trainning={"steps": 5})
    done = runs.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest), check=False)
    assert done.returncode == 1
    assert 'unknown field "spec.trainning"' in done.stderr
    assert runs.names() == []


def test_an_unknown_field_is_dropped_otherwise(runs: Runs) -> None:
    assert runs.create(minimal(trainning={"steps": 5}))["spec"] == DEFAULTS


# -- What may change

FIXED = {
    "model": {"preset": "Wan2.2-I2V-Tiny"},
    "dataset": {"frames": 17},
    "method": {"lora": {"rank": 4}},
    "training": {"steps": 7},
    "store": {"bucket": "other"},
}
FREE = {
    "suspend": True,
    "retries": {"infrastructure": 0},
    "resources": {"memory": "8Gi"},
    "podTemplate": {"nodeSelector": {"disk": "fast"}},
    "activeDeadlineSeconds": 3600,
    "ttlSecondsAfterFinished": 60,
    "checkpoint": {"everySteps": 10},
    "validation": {"samples": 0},
}


@pytest.mark.parametrize("field", FIXED)
def test_what_the_result_depends_on_is_fixed(runs: Runs, field: str) -> None:
    before = runs.create(minimal())
    with pytest.raises(ApiError, match=f"{field} is fixed once the run exists") as refused:
        runs.patch("run", {"spec": {field: FIXED[field]}})
    assert refused.value.fields == [f"spec.{field}"]
    assert runs.server.request("GET", f"{runs.path}/run")["spec"] == before["spec"]


def test_a_store_is_fixed_whether_it_appears_changes_or_goes(runs: Runs) -> None:
    runs.create(minimal(store={"bucket": "first"}))
    for store in ({"bucket": "second"}, {"prefix": "added"}, None):
        with pytest.raises(ApiError, match="store is fixed"):
            runs.patch("run", {"spec": {"store": store}})


def test_experts_are_fixed(runs: Runs) -> None:
    runs.create(minimal(model={"preset": "Wan2.2-I2V-Tiny"}, experts=["HighNoise"]))
    for experts in (["HighNoise", "LowNoise"], None):
        with pytest.raises(ApiError, match="experts is fixed"):
            runs.patch("run", {"spec": {"experts": experts}})


@pytest.mark.parametrize("field", FREE)
def test_the_rest_may_be_edited(runs: Runs, field: str) -> None:
    first = runs.create(minimal())
    edited = runs.patch("run", {"spec": {field: FREE[field]}})
    assert edited["metadata"]["generation"] == first["metadata"]["generation"] + 1
    assert sent_is_kept({field: FREE[field]}, edited["spec"])


def test_every_field_is_either_fixed_or_free() -> None:
    """A new field needs a decision, and a line above."""
    decided = {*FIXED, *FREE, "experts", "parallelism", "output"}
    assert decided == {field.alias for field in WanFineTuneSpec.model_fields.values()}


def test_applying_the_same_again_changes_nothing(runs: Runs) -> None:
    example = str(ROOT / "examples/finetune-tiny.yaml")
    runs.kubectl("apply", "--server-side", "-f", example)
    before = runs.server.request("GET", f"{runs.path}/demo")["metadata"]
    runs.kubectl("apply", "--server-side", "-f", example)
    after = runs.server.request("GET", f"{runs.path}/demo")["metadata"]
    assert after["resourceVersion"] == before["resourceVersion"]


# -- Status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = "0" * 64


def full_status() -> WanFineTuneStatus:
    """Every field set: the round trip below fails when a new one is not."""
    artifact = Artifact(uri="s3://wan/runs/team/run/0123abcd/export/manifest.json", sha256=DIGEST)
    return WanFineTuneStatus(
        observed_generation=3,
        conditions=[
            Condition(
                type=type_,
                status=status,
                reason=reason,
                message="training step 40 of 200",
                last_transition_time=NOW,
                observed_generation=3,
            )
            for type_, status, reason in (
                ("Running", "True", "StepRunning"),
                ("DatasetReady", "True", "DatasetPrepared"),
                ("Stalled", "False", "StepRunning"),
            )
        ],
        start_time=NOW,
        completion_time=NOW,
        suspended_seconds=12,
        suspended_since=NOW,
        effective=Effective(
            store=EffectiveStore(
                endpoint="http://minio:9000",
                bucket="wan",
                prefix="runs",
                region="us-east-1",
                secret_name="wan-store",
            ),
            frames=17,
            fps=16,
            width=128,
            height=96,
            experts=["Only"],
            gpus=1,
            image="wan-runtime@sha256:" + DIGEST,
            run_prefix="s3://wan/runs/team/run/0123abcd",
        ),
        steps=[
            StepStatus(
                name=name,
                state="Running",
                attempts=2,
                infrastructure_retries=1,
                out_of_memory_retries=1,
                next_attempt_time=NOW,
                start_time=NOW,
                completion_time=NOW,
                artifact=artifact,
                summary={"clips": "12"},
            )
            for name in ("prepare", "train")
        ],
        progress=ProgressStatus(
            step="train",
            activity="training",
            current=40,
            total=200,
            unit="steps",
            display="train 40/200",
            eta="4m10s",
            loss="0.123",
            time=NOW,
        ),
        artifact=artifact,
        last_failure=LastFailure(
            step="train",
            attempt=1,
            exit_code=30,
            reason="StoreUnreachable",
            message="no answer",
            pod="run-train-1-abcde",
            node="node-0",
            time=NOW,
        ),
    )


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, f"{path}.{key}")
    else:
        yield path, value


def test_status_round_trip(runs: Runs) -> None:
    status = full_status()
    sent = status.model_dump(mode="json", by_alias=True)
    empty = [path for path, value in leaves(sent) if value in (None, [], "")]
    assert not empty, "set these in full_status()"
    runs.create(minimal() | {"status": sent})
    assert "status" not in runs.server.request("GET", f"{runs.path}/run"), (
        "only the subresource writes it"
    )

    patched = runs.patch("run", {"status": sent}, "/status")
    assert patched["status"] == sent, "the schema drops or changes a field of the status"
    assert WanFineTuneStatus.model_validate(patched["status"]) == status
    assert patched["metadata"]["generation"] == 1, "a status is no change of what is wanted"


def test_the_server_adds_nothing_to_a_status(runs: Runs) -> None:
    """Else the one writer would see differences that are none, and write for ever."""
    runs.create(minimal())
    sent = {"observedGeneration": 1, "steps": [{"name": "train", "state": "Waiting"}]}
    assert runs.patch("run", {"status": sent}, "/status")["status"] == sent


def test_a_broken_status_is_refused(runs: Runs) -> None:
    runs.create(minimal())
    sent = full_status().model_dump(mode="json", by_alias=True)
    broken = deepcopy(sent)
    broken["conditions"].append(broken["conditions"][0])
    with pytest.raises(ApiError, match=r"status\.conditions\[3\]: Duplicate value"):
        runs.patch("run", {"status": broken}, "/status")
    broken = deepcopy(sent)
    broken["artifact"]["sha256"] = "abc"
    with pytest.raises(ApiError, match=r"status\.artifact\.sha256"):
        runs.patch("run", {"status": broken}, "/status")


# -- What people see


def table(text: str) -> list[list[str]]:
    """Cells of kubectl's table; an empty cell stays one."""
    head, *rows = text.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", head)]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    return [[line[start:stop].strip() for start, stop in spans] for line in (head, *rows)]


def test_columns(runs: Runs) -> None:
    runs.create(minimal("busy"))
    runs.create(minimal("fresh"))
    status = full_status().model_dump(mode="json", by_alias=True)
    runs.patch("busy", {"status": status}, "/status")

    head, busy, fresh = table(runs.kubectl("get", "wft").stdout)
    assert head == ["NAME", "STATE", "REASON", "PROGRESS", "ETA", "GPUS", "AGE"]
    assert busy[:6] == ["busy", "Running", "StepRunning", "train 40/200", "4m10s", "1"]
    assert fresh[:6] == ["fresh", "", "", "", "", ""]
    assert re.fullmatch(r"\d+s", busy[6])

    head, busy, _ = table(runs.kubectl("get", "wft", "-o", "wide").stdout)
    assert head[6:] == ["ARTIFACT", "MODEL", "AGE"] or head[6:] == ["AGE", "ARTIFACT", "MODEL"]
    assert status["artifact"]["uri"] in busy
    assert "Wan2.1-I2V-Tiny" in busy


def test_the_first_true_condition_is_shown(runs: Runs) -> None:
    runs.create(minimal())
    status = full_status().model_dump(mode="json", by_alias=True)
    told = {
        "Failed": ("True", "ClipInvalid"),
        "Stalled": ("True", "ClipInvalid"),
        "Running": ("False", "ClipInvalid"),
    }
    status["conditions"] = [
        status["conditions"][0] | {"type": type_, "status": state, "reason": reason}
        for type_, (state, reason) in told.items()
    ]
    runs.patch("run", {"status": status}, "/status")
    _, row = table(runs.kubectl("get", "wft").stdout)
    assert row[1:3] == ["Failed", "ClipInvalid"]


def test_explain_has_the_words_of_the_models(runs: Runs) -> None:
    said = " ".join(runs.kubectl("explain", "wft.spec.dataset.rejectedClips").stdout.split())
    assert "stop the run with its name, or be left out and counted" in said
    assert "ENUM: Fail Skip" in said
