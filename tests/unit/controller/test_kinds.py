"""The registry of kinds: what the engine relies on, for every kind in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.controller.service_world import settings
from wan_operator import sweep
from wan_operator.kinds import FINETUNE, KINDS, Follows, Kind, key_of, owner_of
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Observed
from wan_runtime.contract.reasons import Reason

Raw = dict[str, Any]
ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def example(kind: Kind) -> Raw:
    cr: Raw = yaml.safe_load((ROOT / kind.definition.example).read_text(encoding="utf-8"))
    cr["metadata"] |= {"namespace": "team", "uid": "u" * 36, "generation": 1}
    return cr


def decided(kind: Kind) -> Decision:
    """The first decision that makes something; one kind writes its status before that."""
    cr = example(kind)
    decision = kind.reconcile(cr, Observed(), settings(), NOW)
    if decision.children:
        return decision
    return kind.reconcile(cr | {"status": decision.status}, Observed(), settings(), NOW)


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


@every_kind
def test_a_kind_follows_only_kinds_that_it_says(kind: Kind) -> None:
    cr = example(kind)
    named = [{"name": "a", "fineTuneRef": {"name": "demo"}}]
    compared = {"name": "b", "fromEvaluation": {"name": "compare"}}
    cr["spec"] |= {"adapters": [*named, compared], "candidates": named}
    said = kind.follows.kinds if kind.follows else frozenset()
    assert {key.kind for key in kind.followed_by(cr)} == said <= KINDS.keys()


@pytest.mark.parametrize("declared", [*permutations(("Last", "Middle", "First"))])
def test_a_sweep_lists_a_kind_before_those_that_it_follows(
    declared: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain, in whatever order the registry has it: `First` follows `Middle`."""
    follows = {"First": {"Middle"}, "Middle": {"Last"}, "Last": set[str]()}
    made = {
        name: replace(
            FINETUNE,
            definition=replace(FINETUNE.definition, name=name),
            follows=Follows(kinds=frozenset(follows[name]), keys=lambda cr: ()),
        )
        for name in declared
    }
    monkeypatch.setattr(sweep, "KINDS", made)
    assert list(sweep.in_order()) == ["First", "Middle", "Last"]


@every_kind
def test_a_reason_of_the_runtime_means_what_the_contract_says(kind: Kind) -> None:
    reasons = kind.vocabulary.reasons
    shared = [reason for reason in Reason if reason in reasons]
    assert shared
    assert {each: reasons[each] for each in shared} == {each: each.explanation for each in shared}
