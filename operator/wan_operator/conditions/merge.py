"""Builds the list of conditions of a status, for every kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from wan_operator.api.v1alpha1.common import Condition
from wan_operator.conditions.namespaces import placed
from wan_runtime.contract.reasons import Explanation

# kstatus's: every kind has both.
RECONCILING = "Reconciling"
STALLED = "Stalled"


STATUSES: dict[bool | None, Literal["True", "False", "Unknown"]] = {
    True: "True",
    False: "False",
    None: "Unknown",
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that the conditions of a kind may say."""

    types: Mapping[str, str]
    reasons: Mapping[str, Explanation]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one condition should say."""

    type: str
    status: bool | None
    """None: unknown."""
    reason: str
    message: str = ""


def merge(
    previous: Sequence[Condition],
    wanted: Iterable[Wanted],
    generation: int,
    now: datetime,
    vocabulary: Vocabulary,
    namespace: str,
) -> list[Condition]:
    """The new list: exactly `wanted`, the most informative first, each with its old transition time
    unless its status changed. A condition that is no longer wanted is gone.

    `namespace`: of the resource, where all that it names is looked for."""
    before = {condition.type: condition for condition in previous}
    ranks = {name: rank for rank, name in enumerate(vocabulary.types)}
    merged = []
    for want in sorted(wanted, key=lambda want: (not want.status, ranks[want.type])):
        assert want.reason in vocabulary.reasons, f"{want.reason} is not a documented reason"
        status = STATUSES[want.status]
        old = before.get(want.type)
        same = old is not None and old.status == status
        merged.append(
            Condition(
                type=want.type,
                status=status,
                reason=want.reason,
                message=placed(want.message, namespace)[:32768],
                last_transition_time=old.last_transition_time if old is not None and same else now,
                observed_generation=generation,
            )
        )
    return merged


def confirmed(conditions: Iterable[Condition], generation: int) -> list[Condition]:
    """The same conditions, as they hold for `generation` too: whoever writes that a generation was
    observed says it of each."""
    return [each.model_copy(update={"observed_generation": generation}) for each in conditions]


def first_true(conditions: Iterable[Condition], *types: str) -> Condition | None:
    """The first of these types that is true; None if none is."""
    true = {each.type: each for each in conditions if each.status == "True"}
    return next((true[type_] for type_ in types if type_ in true), None)


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    return any(condition.type == type_ and condition.status == "True" for condition in conditions)
