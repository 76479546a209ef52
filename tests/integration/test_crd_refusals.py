"""What the CRD refuses, and how it says so; what may change and what is fixed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from integration.apiserver import ApiError
from integration.runs import DEFAULTS, INVALID, ROOT, Manifest, Runs, load, minimal, sent_is_kept
from wan_operator.api.v1alpha1.finetune import (
    WanFineTuneSpec,
)


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
    assert "evaluating rule" not in refused.value.message
    assert runs.names() == []


@pytest.mark.parametrize("example", INVALID, ids=lambda path: path.stem)
def test_invalid_example_is_wrong_in_one_way_only(example: Path) -> None:
    """Each is the minimal run and one mistake: no other rule can stand in for the one shown."""
    sound = minimal()["spec"]
    spec = load(example)["spec"]
    changed = {key for key in sound | spec if spec.get(key) != sound.get(key)}
    assert len(changed) == (0 if example.stem.startswith("name") else 1), changed


@pytest.mark.parametrize("method", ["lora", "full"])
def test_one_file_cannot_start_both_experts(runs: Runs, method: str) -> None:
    def start(uri: str) -> None:
        init = {method: {"initFrom": {"uri": uri}}}
        runs.create(minimal(model={"preset": "Wan2.2-I2V-Tiny"}, method=init))

    with pytest.raises(ApiError, match="one file holds one expert: set highNoise and lowNoise"):
        start("s3://wan/high.safetensors")
    with pytest.raises(ApiError, match="one file holds one expert: set highNoise and lowNoise"):
        start("s3://wan/high.safetensors.index.json")
    start("s3://wan/runs/team/first/0a1b2c3d/export")


def test_a_mean_of_all_weights_is_refused(runs: Runs) -> None:
    with pytest.raises(ApiError, match=r"applies to method\.lora only") as refused:
        runs.create(minimal(method={"full": {}}, training={"ema": {}}))
    assert refused.value.fields == ["spec.training.ema"]
    runs.create(minimal(method={"lora": {}}, training={"ema": {"decay": 0.99}}))


def test_blocks_that_are_computed_again_draw_no_dropout_anew(runs: Runs) -> None:
    kept = {"gradientCheckpointing": "Offload"}
    with pytest.raises(ApiError, match="Offload train without dropout: use Auto") as refused:
        runs.create(minimal(method={"lora": {"dropoutPercent": 5}}, training=kept))
    assert refused.value.fields == ["spec.training.gradientCheckpointing"]
    with pytest.raises(ApiError, match="Offload train a LoRA: use Auto or Full"):
        runs.create(minimal(method={"full": {}}, training=kept))
    runs.create(minimal(training={**kept, "deterministic": True}))


def test_weights_that_are_trained_are_never_rounded(runs: Runs) -> None:
    with pytest.raises(ApiError, match=r"method\.full trains them, so use BF16") as refused:
        runs.create(minimal(method={"full": {}}, training={"basePrecision": "FP8"}))
    assert refused.value.fields == ["spec.training.basePrecision"]
    runs.create(minimal(method={"lora": {}}, training={"basePrecision": "FP8"}))


def test_dropout_is_for_one_gpu(runs: Runs) -> None:
    several = {"gpusPerNode": 2, "sequence": 2}
    dropout = {"lora": {"dropoutPercent": 10}}
    with pytest.raises(ApiError, match="would depend on the number of GPUs") as refused:
        runs.create(minimal(parallelism=several, method=dropout))
    assert refused.value.fields == ["spec.method.lora.dropoutPercent"]
    runs.create(minimal("one", method=dropout))
    runs.create(minimal("several", parallelism=several))


@pytest.mark.parametrize("training", [{"ema": {}}, {"basePrecision": "FP8"}], ids=str)
def test_what_deepspeed_cannot_train_is_refused(runs: Runs, training: Manifest) -> None:
    with pytest.raises(ApiError, match="DeepSpeed does not go together with") as refused:
        runs.create(minimal(training=training, parallelism={"zeroStage": 2}))
    assert refused.value.fields == ["spec.parallelism.zeroStage"]
    runs.create(minimal(training=training, parallelism={"zeroStage": 0}))


def test_a_joint_run_is_of_both_experts(runs: Runs) -> None:
    joint = {"parallelism": {"experts": "Joint"}}
    pair = {"model": {"preset": "Wan2.2-I2V-Tiny"}, **joint}
    for spec, field, said in (
        (joint, "parallelism.experts", "only the two experts of Wan2.2 can train"),
        ({**pair, "experts": ["LowNoise"]}, "parallelism.experts", "or in one Job: use Sequential"),
        ({**pair, "training": {"steps": 1}}, "training.steps", "at least 2 where"),
        (
            {**pair, "method": {"lora": {"dropoutPercent": 5}}},
            "method.lora.dropoutPercent",
            "would depend on the steps of the other",
        ),
    ):
        with pytest.raises(ApiError, match=said) as refused:
            runs.create(minimal(**spec))
        assert refused.value.fields == [f"spec.{field}"]
    runs.create(minimal(**pair, training={"steps": 2}))


def test_gpus_that_share_the_clips_evenly_are_taken(runs: Runs) -> None:
    """Alone, or by splitting clips."""
    runs.create(minimal("split", parallelism={"gpusPerNode": 4}))
    runs.create(
        minimal("apart", parallelism={"gpusPerNode": 8, "nodes": 2},
                training={"batchSize": 2, "gradientAccumulation": 8})
    )  # fmt: skip
    source = {"persistentVolumeClaim": {"claimName": "wan-models"}}
    big = {"preset": "Wan2.1-I2V-14B-720P", "source": source}
    runs.create(minimal("eight", model=big, parallelism={"gpusPerNode": 8, "sequence": 8}))


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
OTHER = {
    "model": {"preset": "Wan2.1-I2V-Tiny"},
    "dataset": {"frames": 9},
    "method": {"lora": {"rank": 8}},
    "training": {"steps": 8},
    "store": {"bucket": "another"},
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


def steps_are(runs: Runs, **states: str) -> None:
    steps = [{"name": name, "state": state} for name, state in states.items()]
    runs.patch("run", {"status": {"steps": steps}}, "/status")


@pytest.mark.parametrize("field", FIXED)
def test_what_the_result_depends_on_is_fixed_once_a_gpu_has_worked(runs: Runs, field: str) -> None:
    runs.create(minimal())
    steps_are(runs, prepare="Complete", **{"import": "Running"}, encode="Waiting")
    before = runs.patch("run", {"spec": {field: FIXED[field]}})
    assert sent_is_kept({field: FIXED[field]}, before["spec"])
    for states in (
        {"prepare": "Complete", "encode": "Running"},
        {"prepare": "Complete", "encode": "Complete", "train": "Waiting"},
        {"prepare": "Failed", "encode": "Waiting"},
    ):
        steps_are(runs, **states)
        with pytest.raises(ApiError, match=f"{field} is fixed once a GPU has worked") as refused:
            runs.patch("run", {"spec": {field: OTHER[field]}})
        assert refused.value.fields == [f"spec.{field}"]
        assert runs.server.request("GET", f"{runs.path}/run")["spec"] == before["spec"]


def test_a_run_becomes_no_joint_one_once_a_gpu_has_worked(runs: Runs) -> None:
    runs.create(minimal(model={"preset": "Wan2.2-I2V-Tiny"}))
    steps_are(runs, prepare="Complete", encode="Running")
    runs.patch("run", {"spec": {"parallelism": {"experts": "Parallel"}}})
    with pytest.raises(ApiError, match="Joint is fixed once a GPU has worked") as refused:
        runs.patch("run", {"spec": {"parallelism": {"experts": "Joint"}}})
    assert refused.value.fields == ["spec.parallelism.experts"]


def test_a_store_is_fixed_whether_it_appears_changes_or_goes(runs: Runs) -> None:
    runs.create(minimal(store={"bucket": "first"}))
    steps_are(runs, encode="Running")
    for store in ({"bucket": "second"}, {"prefix": "added"}, None):
        with pytest.raises(ApiError, match="store is fixed"):
            runs.patch("run", {"spec": {"store": store}})


def test_what_decides_the_best_weights_is_fixed(runs: Runs) -> None:
    runs.create(minimal())
    steps_are(runs, encode="Running")
    with pytest.raises(ApiError, match=r"validation\.everySteps is fixed"):
        runs.patch("run", {"spec": {"validation": {"everySteps": 10}}})


def test_experts_are_fixed(runs: Runs) -> None:
    runs.create(minimal(model={"preset": "Wan2.2-I2V-Tiny"}, experts=["HighNoise"]))
    steps_are(runs, encode="Running")
    for experts in (["HighNoise", "LowNoise"], None):
        with pytest.raises(ApiError, match="experts is fixed"):
            runs.patch("run", {"spec": {"experts": experts}})


@pytest.mark.parametrize("field", FREE)
def test_the_rest_may_be_edited(runs: Runs, field: str) -> None:
    first = runs.create(minimal())
    edited = runs.patch("run", {"spec": {field: FREE[field]}})
    assert edited["metadata"]["generation"] == first["metadata"]["generation"] + 1
    assert sent_is_kept({field: FREE[field]}, edited["spec"])


def test_formats_are_free_until_the_export_begins(runs: Runs) -> None:
    def export_is(state: str) -> None:
        steps = [{"name": "train", "state": "Complete"}, {"name": "export", "state": state}]
        runs.patch("run", {"status": {"steps": steps}}, "/status")

    def ask(*formats: str) -> None:
        runs.patch("run", {"spec": {"output": {"formats": list(formats)}}})

    runs.create(minimal())
    for state in ("Running", "Complete", "Waiting"):
        export_is(state)  # of a run that names no formats
    ask("DiffSynth")
    ask("DiffSynth", "ComfyUI")
    for state in ("Running", "Complete"):
        export_is(state)
        with pytest.raises(ApiError, match="is fixed once the export has begun") as refused:
            ask("DiffSynth", "Diffusers")
        assert refused.value.fields == ["spec.output"]
        runs.patch("run", {"spec": {"suspend": state == "Running"}})


def test_every_field_is_either_fixed_or_free() -> None:
    """A new field needs a decision, and a line above."""
    decided = {*FIXED, *FREE, "experts", "parallelism", "output"}
    assert decided == {field.alias for field in WanFineTuneSpec.model_fields.values()}


def test_applying_the_same_again_changes_nothing(runs: Runs) -> None:
    example = str(ROOT / "examples/finetune-tiny.yaml")

    def applied() -> Manifest:
        runs.kubectl("apply", "--server-side", "-f", example)
        found: Manifest = runs.server.request("GET", f"{runs.path}/demo")
        return found

    first, second, third = applied(), applied(), applied()
    # The API server keeps the default of the status with the first write after the creation, which
    # is the operator's where there is one.
    assert second["metadata"]["generation"] == first["metadata"]["generation"] == 1
    assert (second["spec"], second["status"]) == (first["spec"], first["status"])
    assert third == second
