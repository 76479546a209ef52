"""The CRD on a real API server: what it takes and what it stores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from integration.apiserver import ApiError
from integration.runs import (
    CRD,
    DEFAULTS,
    EXAMPLES,
    ROOT,
    Manifest,
    Runs,
    load,
    minimal,
    sent_is_kept,
)
from wan_operator.api.v1alpha1.finetune import (
    NAME_LIMIT,
    WanFineTuneSpec,
)

MANIFEST = re.compile(r"^```yaml\n(apiVersion: wan-operator.*?)^```$", re.MULTILINE | re.DOTALL)


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


def test_what_the_front_pages_show_is_taken(runs: Runs) -> None:
    for page in ("README.md", "docs/quickstart.md"):
        shown = MANIFEST.findall((ROOT / page).read_text())
        assert shown, page
        for text in shown:
            dry = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
            assert runs.kubectl(*dry, stdin=text).stderr == "", page


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_models_and_server_agree_on_the_defaults(runs: Runs, example: Path) -> None:
    """Whoever reads the spec sees the same run, whether the server or pydantic fills it in."""
    wanted = load(example)
    stored = runs.create(wanted)["spec"]
    assert WanFineTuneSpec.model_validate(stored) == WanFineTuneSpec.model_validate(wanted["spec"])
    assert sent_is_kept(wanted["spec"], stored)


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
