"""The status as the API server keeps it, and what people see of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from integration.apiserver import ApiError
from integration.operator_process import eventually
from integration.runs import Runs, minimal
from wan_operator.api.v1alpha1.common import Artifact, Condition, EffectiveStore
from wan_operator.api.v1alpha1.finetune import (
    Effective,
    EffectiveBucket,
    EffectivePlan,
    FormatStatus,
    WanFineTuneStatus,
)
from wan_operator.api.v1alpha1.finetune_status import EffectiveParallelism
from wan_operator.api.v1alpha1.runs import CheckpointStatus, LastFailure, ProgressStatus, StepStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = "0" * 64


def full_status() -> WanFineTuneStatus:
    """Every field set: the round trip below fails when a new one is not."""
    artifact = Artifact(uri="s3://wan/runs/team/run/0123abcd/export/manifest.json", sha256=DIGEST)
    checkpoint = CheckpointStatus(
        name="train",
        step=40,
        uri="s3://wan/runs/team/run/0123abcd/train/checkpoints/step-00000040/manifest.json",
        sha256=DIGEST,
        time=NOW,
    )
    return WanFineTuneStatus(
        observed_generation=3,
        spec_sha256="c" * 64,
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
        checkpoint_deletion_time=NOW,
        effective=Effective(
            store=EffectiveStore(
                endpoint="http://minio:9000",
                bucket="wan",
                prefix="runs",
                region="us-east-1",
                secret_name="wan-store",
            ),
            fps=16,
            buckets=[
                EffectiveBucket(width=128, height=96, frames=17),
                EffectiveBucket(width=96, height=128, frames=5),
            ],
            experts=["Only"],
            formats=["DiffSynth", "ComfyUI"],
            gpus=1,
            image="wan-runtime@sha256:" + DIGEST,
            run_prefix="s3://wan/runs/team/run/0123abcd",
            gradient_checkpointing="None",
            checkpoint_every_steps=50,
            parallelism=EffectiveParallelism(
                nodes=2,
                gpus_per_node=4,
                sequence=2,
                zero_stage=3,
                offload="Optimizer",
            ),
            plan=EffectivePlan(
                gpu="H100-80GB",
                gpu_gib=78.3,
                gpu_error_percent=2,
                seconds_per_step=32.61,
                steps=1800,
                hours=16.3,
                time_error_percent=7,
                cost=48.9,
                confidence="Measured",
            ),
        ),
        steps=[
            StepStatus(
                name=name,
                state="Running",
                reason="StoreUnreachable",
                message="train failed: no route",
                running_since=NOW,
                checkpoint=checkpoint,
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
            waits_for="http://minio:9000: nothing listens there",
            waits_reason="StoreUnreachable",
            time=NOW,
        ),
        artifact=artifact,
        formats=[
            FormatStatus(name="ComfyUI", consumer="its key names", worst_difference="2.1e-08")
        ],
        checkpoint=checkpoint,
        lost_gpu_seconds=640,
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
    unseen = runs.server.request("GET", f"{runs.path}/run")["status"]
    assert unseen == {"observedGeneration": -1}, "only the subresource writes it"

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
    assert head[6:] == ["CHECKPOINT", "ARTIFACT", "MODEL", "AGE", "MESSAGE"]
    assert busy[10] == status["conditions"][0]["message"]
    assert re.fullmatch(r"\d+d", busy[6]), "of NOW"
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
    # `explain` takes the names that kubectl last saw, which may be older than the CRDs.
    runs.kubectl("get", "wft")
    # The API server describes CRDs up to a second after it serves them.
    words = ("explain", "wft.spec.dataset.rejectedClips")
    said = " ".join(eventually(lambda: runs.kubectl(*words, check=False).stdout, "words").split())
    assert "Skip: the clip is left out and counted. Default: Fail." in said
    assert "ENUM: Fail Skip" in said
