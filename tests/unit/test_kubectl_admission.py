"""`kubectl wan plan` refuses what the API server refuses, with its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.runs import DEFAULTS, minimal
from integration.test_crd_evaluations import minimal as minimal_evaluation
from integration.test_crd_services import minimal as minimal_service
from mistakes import Mistake, manifests, mistakes
from wan_operator.api.markers import RULES, Schema
from wan_operator.kinds import KINDS
from wan_operator.kubectl.admission import broken_rules, schema_of, stored
from wan_operator.kubectl.cel import compiled

pytest_plugins = ["plan_fixtures"]
Plan = Callable[..., tuple[int, str, str]]
INVALID = Path(__file__).parents[2] / "examples" / "invalid"
VALUES = {"endpoint": "http://minio:9000", "namespace": "team-a"}
OF_THE_SERVER = {
    "Required value": "is missing",
    'Unsupported value: "fid"': 'not "fid"',
    'Unsupported value: "Wan2.1-T2V-14B"': 'not "Wan2.1-T2V-14B"',
    "should have at least 1 items": "must have at least 1 items",
    "should be greater than or equal to 1": "must be at least 1, not 0",
    "should be less than or equal to 99": "must be at most 99, not 100",
    "should be greater than 0": "must be more than 0, not 0",
}
"""Words of types and bounds, which are Kubernetes' own, beside those of the command."""


@pytest.mark.parametrize("file", sorted(INVALID.rglob("*.yaml")), ids=lambda file: file.stem)
def test_an_invalid_example_is_refused(plan: Plan, file: Path) -> None:
    text = file.read_text()
    said, field = re.findall(r"^# (?:refused|field): (.*)$", text, re.MULTILINE)
    status, out, error = plan(of=text)
    assert (status, out) == (2, "")
    assert f" {field}" in error
    assert OF_THE_SERVER.get(said, said) in error


def faults(manifest: Any) -> list[str]:
    schema = schema_of(KINDS[manifest["kind"]].definition)
    return [*broken_rules(stored(manifest, schema), schema)]


EXPERTS = {"preset": "Wan2.2-I2V-A14B", "source": {"s3": "s3://models"}}
PARTS = ("uri", "highNoise", "lowNoise")


def with_file(field: str, uri: str) -> Any:
    """A resource with the address in a field of a file."""
    parent, _, name = field.rpartition(".")
    if parent == "spec.effects[0]":
        return minimal_service(effects=[{"name": "anime", name: uri}])
    if parent == "spec.adapters[0].files":
        return minimal_service(adapters=[{"name": "anime", "files": {name: uri}}], model=EXPERTS)
    others = minimal_evaluation()["spec"]["candidates"][1:]
    candidate = {"name": "anime", "model": EXPERTS, "adapter": {name: uri}}
    return minimal_evaluation(candidates=[candidate, *others])


@pytest.mark.parametrize("uri", ["s3://wan", "s3://wan/"])
@pytest.mark.parametrize(
    "field",
    [
        *(f"spec.adapters[0].files.{part}" for part in PARTS),
        *(f"spec.candidates[0].adapter.{part}" for part in PARTS),
        "spec.effects[0].preview",
    ],
)
def test_a_bucket_is_no_file(field: str, uri: str) -> None:
    bucket = uri.rstrip("/")
    for right in (f"{bucket}/a", f"{bucket}/a/b.safetensors", f"{bucket}/b.safetensors/"):
        assert faults(with_file(field, right)) == []
    said = "must name a file, as s3://bucket/path does, and no whole bucket"
    assert faults(with_file(field, uri)) == [f'{field}: {said}; it is "{uri}"']


def test_of_files_that_were_taken_before_the_status_may_tell() -> None:
    """The API server keeps an object as it is, and checks what is written of its status."""
    schema = KINDS["WanInferenceService"].definition.schema()["properties"]["status"]
    fault = {"name": "anime", "reason": "AdapterNotFound", "files": {"uri": "s3://wan/"}}
    assert [*broken_rules({"adapters": [fault]}, schema)] == []


@pytest.mark.parametrize("uri", ["s3://wan", "s3://wan/"])
def test_a_bucket_is_a_folder(uri: str) -> None:
    """Datasets, models, shards, ready videos and weights of metrics may lie at its root."""
    model = {"preset": "Wan2.1-I2V-14B-480P", "source": {"s3": uri}}
    lora = {"lora": {"initFrom": {"uri": uri}}}
    assert faults(minimal(dataset={"source": uri}, model=model, method=lora)) == []
    candidates = [{"name": "a", "model": model}, {"name": "b", "videos": uri}]
    clips = {"dataset": {"source": uri}}
    compared = minimal_evaluation(candidates=candidates, metricWeights=uri, clips=clips)
    assert faults(compared) == []


@pytest.mark.parametrize("row", mistakes("apply"), ids=lambda row: row.name)
def test_a_mistake_that_apply_refuses_is_refused(plan: Plan, row: Mistake) -> None:
    status, out, error = plan(of=manifests(row, row.apply, VALUES))
    assert (status, out) == (2, "")
    for words in row.says:
        assert words in error
    kind = row.apply[-1]["kind"]
    mended = row.mend[0] if row.mend else {}
    assert plan(of=manifests(row, [{"kind": kind, "name": "mended", **mended}], VALUES))[0] == 0


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "metadata.name: is missing"),
        ({"name": "My_Run"}, "metadata.name: must be the name of an object"),
        ({"generateName": "r" * 60}, "metadata.name: may have at most 40 characters"),
        ({"name": "a", "lables": {}}, 'unknown field "metadata.lables"'),
        ({"name": "a", "labels": {"cost centre": "x"}}, "metadata.labels: has the key cost centre"),
        ({"name": "a", "labels": {"team": 42}}, "metadata.labels.team: must be text, not 42"),
        ({"name": "a", "annotations": {"": "x"}}, "metadata.annotations: has the key"),
    ],
)
def test_metadata_that_the_server_refuses(plan: Plan, metadata: Any, says: str) -> None:
    status, out, error = plan(of=minimal() | {"metadata": metadata})
    assert (status, out) == (2, "")
    assert says in error


def test_what_kubectl_get_prints_is_planned(plan: Plan) -> None:
    own = {"uid": "1", "resourceVersion": "2", "managedFields": [], "generation": 1}
    live = minimal() | {"status": {"observedGeneration": 1, "steps": []}}
    live["metadata"] |= own
    assert plan(of=live)[0] == 0
    assert plan(of=live | {"spce": {}})[2].endswith('unknown field "spce"\n')


def test_all_that_is_wrong_is_told(plan: Plan) -> None:
    several = minimal(dataset={"source": "s3://a/b", "frames": 50}, store={"bucket": "Ours"})
    _, _, error = plan(of=several)
    for field in ("spec.dataset.source", "spec.dataset.frames", "spec.store.bucket"):
        assert f"{field}: must " in error


def test_what_is_stored_is_what_the_server_stores() -> None:
    """test_crd.py has the same of a server."""
    schema = schema_of(KINDS["WanFineTune"].definition)
    left_out = minimal(training=None, method={"lora": {"rank": None}, "full": None}, store=None)
    for given in (minimal(), left_out):
        assert stored(given, schema)["spec"] == DEFAULTS
        assert [*broken_rules(stored(given, schema), schema)] == []


@pytest.mark.parametrize(
    ("weights", "is_kept"), [({"a": 1, "b": 0}, True), ({"a": 1, "b": 2}, False)]
)
def test_rules_see_numbers_as_doubles_and_no_status(weights: Any, is_kept: bool) -> None:
    number: Schema = {"type": "number"}
    own = {"rule": "self.a + self.b == self.a * 1.0 && !has(self.status)", "message": "too much"}
    schema = {"properties": {"a": number, "b": number, "status": {}}, RULES: [own]}
    assert ([*broken_rules(weights | {"status": {"x": 2**70}}, schema)] == []) is is_kept


def rules(node: Any) -> Iterator[Schema]:
    """All of them, of a schema and what is below it."""
    if isinstance(node, dict):
        yield from node.get(RULES, ())
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from rules(child)


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_can_be_computed(kind: str) -> None:
    found = [*rules(KINDS[kind].definition.schema())]
    assert len(found) > 50
    for each in found:
        compiled(each["rule"])
        compiled(each.get("messageExpression", "''"))
