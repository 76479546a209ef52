"""Numbers that agree best with equations, by relative error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Equation:
    """measured = known + the sum of units x unknowns."""

    measured: float
    known: float
    units: tuple[float, ...]
    """As many in each equation."""

    def at(self, unknowns: tuple[float, ...]) -> float:
        """What the equation makes of its unknowns."""
        return self.known + sum(unit * x for unit, x in zip(self.units, unknowns, strict=True))


def fit(equations: Iterable[Equation]) -> tuple[float, ...]:
    """Unknowns that minimise the sum of ((known + units x unknowns - measured) / measured)^2, by
    the normal equations. None is below zero, since each is a share of time or memory that something
    takes: one that would be is zero, and the others are found without it. Raises ValueError if the
    equations leave one of them open."""
    each_of = list(equations)
    found = _solve(each_of)
    least = min(range(len(found)), key=lambda at: found[at])
    if found[least] >= 0:
        return found
    rest = fit(
        replace(each, units=each.units[:least] + each.units[least + 1 :]) for each in each_of
    )
    return *rest[:least], 0.0, *rest[least:]


def _solve(equations: list[Equation]) -> tuple[float, ...]:
    """The normal equations' solution, of any sign."""
    rows = [
        (
            tuple(unit / each.measured for unit in each.units),
            (each.measured - each.known) / each.measured,
        )
        for each in equations
    ]
    count = len(rows[0][0]) if rows else 0
    if not count:
        raise ValueError("no measured row is left to calibrate from")
    table = [
        [sum(units[i] * units[j] for units, _ in rows) for j in range(count)]
        + [sum(units[i] * value for units, value in rows)]
        for i in range(count)
    ]
    for at in range(count):
        pivot = max(range(at, count), key=lambda row: abs(table[row][at]))
        table[at], table[pivot] = table[pivot], table[at]
        if abs(table[at][at]) < 1e-12:
            raise ValueError("the measured rows that are left do not say all that they are to")
        table[at] = [value / table[at][at] for value in table[at]]
        for row in range(count):
            if row != at:
                factor = table[row][at]
                pairs = zip(table[row], table[at], strict=True)
                table[row] = [value - factor * of_pivot for value, of_pivot in pairs]
    return tuple(row[-1] for row in table)
