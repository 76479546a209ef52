"""A new step is its facts in the contract, and a line in few other places."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.steps import FACTS, Step

ROOT = Path(__file__).parents[2]
CONTRACT = "runtime/wan_runtime/contract/"
FILES = 3
"""Files outside the contract that may name a step: the plan of its kind, the planner's arithmetic,
and one more."""


def named(source: str) -> Iterator[str]:
    """Members of `Step` in some code, and texts that are the value of one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "Step":
                yield node.attr
        elif isinstance(node, ast.Constant) and node.value in set(Step):
            yield Step(node.value).name


@cache
def places() -> dict[str, set[str]]:
    """Files outside the contract that name each step."""
    found: dict[str, set[str]] = {step.name: set() for step in Step}
    for folder in ("operator/wan_operator", "runtime/wan_runtime"):
        for file in (ROOT / folder).rglob("*.py"):
            path = file.relative_to(ROOT).as_posix()
            for name in set(named(file.read_text())) & found.keys():
                if not path.startswith(CONTRACT):
                    found[name].add(path)
    return found


@pytest.mark.parametrize("step", Step)
def test_a_step_is_named_in_few_files(step: Step) -> None:
    assert len(places()[step.name]) <= FILES, places()[step.name]


def test_the_search_finds_members_and_texts() -> None:
    assert set(named("x = Step.TRAIN\ny = inputs['encode']\nz = 'encode it'")) == {
        "TRAIN",
        "ENCODE",
    }


def test_every_step_has_facts() -> None:
    assert list(FACTS) == list(Step)


@pytest.mark.parametrize("step", Step)
def test_the_modules_of_a_step_are_there(step: Step) -> None:
    facts = FACTS[step]
    assert callable(importlib.import_module(facts.module).run)
    if facts.cleanup is not None:
        assert callable(importlib.import_module(facts.cleanup).remove)


@pytest.mark.parametrize("step", Step)
def test_a_step_does_work_of_one_kind(step: Step) -> None:
    kinds = get_args(JobSpec.model_fields["work"].annotation)
    assert sum(step in kind.steps for kind in kinds) == 1
