"""What users read of a field in one line: by `kubectl explain`, in the reference and in the chart.

Each text has to stand alone: the line above it may be out of sight.
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wan_operator import cli
from wan_operator.api.markers import Schema
from wan_operator.crdgen import chart
from wan_operator.kinds import KINDS, Kind
from wan_operator.kubectl import __main__ as kubectl
from wan_operator.metrics import Metrics
from wan_runtime import cli as runtime
from wan_runtime.process.pages import GAUGES

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "charts/wan-operator/values.schema.json"

FRAGMENT = re.compile(
    r"(?:A[st]|After|Also|And|Before|Beside|Between|But|By|Else|For|From|How|If|In|Its?|Of|On|Only|Or"
    r"|Since|So|That|Then|There|These|This|Those|To|Under|Until|What|When|Where|Which|While|Whose|Why"
    r"|With|Within)\b"
)
"""First words of a text that goes on from another one."""

BANNED = re.compile(
    r"\b(?:asked|await\w*|borne|gangs?|guests?|heed\w*|look\w* at|ours|tell\w*|told)\b",
    re.IGNORECASE,
)
"""Words of a private language."""


def faults(text: str) -> list[str]:
    """What is wrong with a description; empty if nothing is."""
    found = []
    if FRAGMENT.match(text):
        found.append(f"begins with {text.split()[0]}")
    if not text[:1].isupper():
        found.append("begins with no capital letter")
    if not text.endswith("."):
        found.append("ends without a full stop")
    if banned := BANNED.search(text):
        found.append(f"has the word {banned[0]}")
    return found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Of a video, at most.", "begins with Of"),
        ("By which requests know it.", "begins with By"),
        ("pixels.", "begins with no capital letter"),
        ("", "begins with no capital letter"),
        ("Width in pixels", "ends without a full stop"),
        ("Seconds until a worker that is told to stop ends.", "has the word told"),
        ("Room on nodes is looked at.", "has the word looked at"),
    ],
)
def test_a_fragment_is_found(text: str, fault: str) -> None:
    assert fault in faults(text)


def test_a_description_that_stands_alone_passes() -> None:
    assert faults("Format of the file. By default DiffSynth, which has no gangs of workers.") == [
        "has the word gangs"
    ]
    assert faults("Longest video that a request may ask for, in frames of the form 4n+1.") == []


def described(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """(path, description) of a schema and of all below it."""
    if "description" in schema:
        yield path, schema["description"]
    for name, child in schema.get("properties", {}).items():
        yield from described(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(child := schema.get(inner), dict):
            yield from described(child, f"{path}[]")


def wrong(texts: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    return {path: [*found, text] for path, text in texts if (found := faults(text))}


def of_crds() -> Iterator[tuple[str, str]]:
    for kind in KINDS.values():
        version = kind.definition.manifest()["spec"]["versions"][0]
        yield from described(version["schema"]["openAPIV3Schema"], kind.name)
        for column in version["additionalPrinterColumns"]:
            yield f"{kind.name}, column {column['name']}", column["description"]


def test_every_description_of_the_crds_stands_alone() -> None:
    assert wrong(of_crds()) == {}


def of_chart() -> Iterator[tuple[str, str]]:
    for line in (ROOT / chart.README).read_text().splitlines():
        if row := re.match(r"\| `([^`]+)` \| .* \| (.*) \|$", line):
            yield row[1], row[2]
    yield from described(json.loads(SCHEMA.read_text()), "values.schema.json")


def test_every_description_of_the_chart_stands_alone() -> None:
    assert dict(of_chart()).keys() >= {"image.tag", "values.schema.json.global"}
    assert wrong(of_chart()) == {}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_condition_and_reason_is_explained_in_a_sentence(kind: Kind) -> None:
    assert wrong(iter(kind.vocabulary.types.items())) == {}
    reasons = kind.vocabulary.reasons.items()
    assert wrong((word, each.meaning) for word, each in reasons) == {}


def of_metrics() -> Iterator[tuple[str, str]]:
    for family in Metrics().registry.collect():
        if family.name.startswith("wan_"):  # the others are of the client library
            yield family.name, family.documentation


def test_every_metric_of_the_operator_is_explained_in_a_sentence() -> None:
    assert "wan_operator_leading" in dict(of_metrics())
    assert wrong(of_metrics()) == {}


def test_every_metric_of_a_step_is_explained_in_a_sentence() -> None:
    assert wrong(iter(GAUGES.items())) == {}


@pytest.mark.parametrize(
    "parser",
    [cli.parser, kubectl.parser, runtime.parser],
    ids=["wan-operator", "kubectl-wan", "wan-runtime"],
)
def test_helps_have_no_words_of_a_private_language(parser: Callable[[], ArgumentParser]) -> None:
    commands = [action.choices for action in parser()._actions if action.choices]
    assert commands, "it has commands"
    for command in (parser(), *commands[0].values()):
        assert BANNED.findall(command.format_help()) == []


def test_no_default_is_stated_twice() -> None:
    """Those in the schema are appended to its description; a text states only the others."""
    assert [path for path, text in of_crds() if text.count("Default:") > 1] == []
