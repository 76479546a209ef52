"""Conditions: a closed vocabulary, and a builder that keeps what did not change."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import wan_operator
from wan_operator.conditions.merge import Vocabulary, Wanted, merge
from wan_operator.conditions.runs import CONDITION_TYPES, REASONS, RUNS
from wan_runtime.contract.reasons import Reason

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_every_reason_of_the_runtime_is_documented() -> None:
    assert {reason.value for reason in Reason} <= set(REASONS)
    meanings = [each.meaning for each in REASONS.values()]
    assert all(text.endswith(".") for text in (*meanings, *CONDITION_TYPES.values()))


def test_every_reason_that_the_code_names_is_documented_and_the_other_way_round() -> None:
    folder = Path(wan_operator.__file__).parent
    named: set[str] = set()
    decisions = folder.glob("reconcile/**/*.py")
    for path in (*decisions, folder / "kube.py", folder / "controller.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    ours = set(REASONS) - {reason.value for reason in Reason}
    assert ours <= named, "documented and never used"


def test_an_undocumented_reason_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="Whatever"):
        merge([], [Wanted("Running", True, "Whatever")], 1, NOW, RUNS, "team")


def test_a_kind_may_have_words_of_its_own() -> None:
    words = Vocabulary({"Ready": "It serves.", "Running": "It runs."}, {"Serving": "All is well."})
    wanted = [Wanted("Running", True, "Serving"), Wanted("Ready", True, "Serving")]
    assert [c.type for c in merge([], wanted, 1, NOW, words, "team")] == ["Ready", "Running"]
    with pytest.raises(AssertionError, match="StepRunning"):
        merge([], [Wanted("Running", True, "StepRunning")], 1, NOW, words, "team")


def test_transition_time_follows_the_status_alone() -> None:
    first = merge([], [Wanted("Running", False, "StepStarting")], 1, NOW, RUNS, "team")
    later = NOW + timedelta(seconds=5)
    second = merge(first, [Wanted("Running", False, "PodStarting", "new")], 2, later, RUNS, "team")
    assert second[0].last_transition_time == NOW
    assert (second[0].reason, second[0].observed_generation) == ("PodStarting", 2)
    third = merge(second, [Wanted("Running", True, "StepRunning")], 2, later, RUNS, "team")
    assert third[0].last_transition_time == later


def test_what_tells_most_comes_first_and_what_is_not_wanted_is_gone() -> None:
    wanted = [
        Wanted("Running", False, "ClipInvalid"),
        Wanted("DatasetReady", True, "DatasetPrepared"),
        Wanted("Stalled", True, "ClipInvalid"),
        Wanted("Failed", True, "ClipInvalid"),
    ]
    merged = merge([], wanted, 1, NOW, RUNS, "team")
    assert [c.type for c in merged] == ["Failed", "Stalled", "DatasetReady", "Running"]
    assert [c.type for c in merge(merged, wanted[:1], 1, NOW, RUNS, "team")] == ["Running"]


@pytest.mark.parametrize(
    "said",
    [
        'secret "wan-store" not found',
        'MountVolume.SetUp failed for volume "keys" : secret "wan-keys" not found',
        'configmap "corp-ca" not found',
        'persistentvolumeclaim "models" not found',
        'error looking up service account team/x: serviceaccount "x" not found',
        "LocalQueue gpus doesn't exist",
        "WanFineTune anime does not exist",
        "references non-existent secret key: url",
        "Unable to retrieve some image pull secrets (regcred, other)",
    ],
)
def test_what_is_missing_is_missing_in_a_namespace(said: str) -> None:
    text = f"0/3 nodes: {said}. More; and {said}"
    where = f"{said} in namespace team"
    (made,) = merge([], [Wanted("Running", False, "PodStarting", text)], 1, NOW, RUNS, "team")
    assert made.message == f"0/3 nodes: {where}. More; and {where}"
    (again,) = merge(
        [made], [Wanted("Running", False, "PodStarting", made.message)], 1, NOW, RUNS, "team"
    )
    assert again == made


def test_what_has_no_namespace_is_left_as_it_is() -> None:
    for said in (
        "no PriorityClass with name urgent was found",
        "couldn't find key accessKey in Secret team/wan-store",
        "s3://wan/clips does not exist",
    ):
        (made,) = merge([], [Wanted("Running", False, "PodStarting", said)], 1, NOW, RUNS, "team")
        assert made.message == said
