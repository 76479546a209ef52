"""docs/troubleshooting.md has each reason, and names commands, fields and values that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from wan_operator.crdgen.crd import Definition
from wan_operator.crdgen.troubleshooting import troubleshooting
from wan_operator.kinds import KINDS
from wan_runtime.contract.reasons import Explanation

ROOT = Path(__file__).parents[2]
NEED_NOBODY = frozenset({
    "AdaptersLoaded", "CanaryGated", "CanaryProving", "Completed", "DatasetPrepared",
    "FineTunesDone", "GatePassed", "GateWaiting", "GatewayStarting", "ImportingModel",
    "ModelImported", "PodStarting", "RollingOut", "Scaled", "ScaledToZero", "Serving",
    "StepRunning", "StepStarting", "Suspending", "Terminated", "WorkersStarting",
})  # fmt: skip
"""Reasons of states in which nothing has to be mended."""
PROGRAMS = ("kubectl", "helm", "mc", "wan-runtime")

TEXT = troubleshooting(list(KINDS.values()))
ALL = [
    pytest.param(kind.definition, word, explanation, id=f"{kind.name}-{word}")
    for kind in KINDS.values()
    for word, explanation in kind.vocabulary.reasons.items()
]


def quoted(explanation: Explanation) -> list[str]:
    return re.findall("`([^`]+)`", f"{explanation.cause} {explanation.cure}")


@pytest.mark.parametrize(("definition", "word", "explanation"), ALL)
def test_every_fault_has_a_cause_and_a_command(
    definition: Definition, word: str, explanation: Explanation
) -> None:
    assert explanation.meaning.endswith(".")
    if word in NEED_NOBODY:
        assert not explanation.cause
        assert not explanation.cure
        return
    assert explanation.cause.endswith(".")
    assert explanation.cure.endswith(".")
    commands = [text for text in quoted(explanation) if text.split()[0] in PROGRAMS]
    assert commands, f"{word}: the cure names no command"
    assert "\n" not in explanation.meaning + explanation.cause + explanation.cure


@pytest.mark.parametrize(("definition", "word", "explanation"), ALL)
def test_the_page_has_every_reason(
    definition: Definition, word: str, explanation: Explanation
) -> None:
    for text in (explanation.meaning, explanation.cause, explanation.cure):
        assert text in TEXT
    assert (f"\n## {word}\n" in TEXT) is (word not in NEED_NOBODY)
    assert (f"\n| `{word}` |" in TEXT) is (word in NEED_NOBODY)


def fields(definition: Definition) -> Iterator[str]:
    """Paths of all fields of the spec, as `spec.store.bucket` or `spec.adapters[].files`."""

    def below(schema: dict[str, object], path: str) -> Iterator[str]:
        yield path
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        for name, child in properties.items():
            yield from below(child, f"{path}.{name}")
        if isinstance(items := schema.get("items"), dict):
            yield from below(items, f"{path}[]")

    yield from below(definition.schema()["properties"]["spec"], "spec")


def test_named_fields_exist() -> None:
    known = {path for kind in KINDS.values() for path in fields(kind.definition)}
    named = {
        text.split(":")[0]
        for kind in KINDS.values()
        for explanation in kind.vocabulary.reasons.values()
        for text in quoted(explanation)
        if text.startswith("spec.")
    }
    assert named
    assert named <= known


def test_named_helm_values_exist() -> None:
    values = yaml.safe_load((ROOT / "charts/wan-operator/values.yaml").read_text())
    named = {
        path
        for kind in KINDS.values()
        for explanation in kind.vocabulary.reasons.values()
        for path in re.findall(r"--set '?([A-Za-z.]+)=", explanation.cure)
    }
    assert named
    for path in named:
        found = values
        for key in path.split("."):
            assert key in found, path
            found = found[key]
