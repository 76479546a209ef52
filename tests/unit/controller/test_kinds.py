"""The registry of kinds: what the engine relies on, for every kind in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.controller.service_world import settings
from wan_operator.crdgen.crd import KINDS as DEFINITIONS
from wan_operator.kinds import KINDS, Kind, key_of, owner_of
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Observed

Raw = dict[str, Any]
ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
EXAMPLES = {each.name: each.example for each in DEFINITIONS}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def example(kind: Kind) -> Raw:
    cr: Raw = yaml.safe_load((ROOT / EXAMPLES[kind.name]).read_text(encoding="utf-8"))
    cr["metadata"] |= {"namespace": "team", "uid": "u" * 36, "generation": 1}
    return cr


def decided(kind: Kind) -> Decision:
    return kind.reconcile(example(kind), Observed(), settings(), NOW)


@every_kind
def test_an_event_of_a_child_wakes_its_owner(kind: Kind) -> None:
    """By the label of its own kind: that of another would wake a stranger of its name."""
    made = decided(kind).children
    assert made
    assert {owner_of(child) for child in made} == {key_of(kind.name, example(kind))}


@every_kind
def test_what_a_kind_makes_is_listed_for_its_decisions(kind: Kind) -> None:
    assert {child["kind"] for child in decided(kind).children} <= set(kind.children)
    assert set(kind.watched) <= set(kind.children)


def test_kinds_have_labels_of_their_own() -> None:
    assert len({kind.label for kind in KINDS.values()}) == len(KINDS)
