"""The Common Expression Language of the CRDs' rules, by its authors' C++ engine.

What is not in the language, nor in cel_functions.py, is an error when a rule is compiled, and a
test compiles them all: no rule is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cel_expr_python import cel

from wan_operator.kubectl.cel_functions import FUNCTIONS

VARIABLES = ("self", "oldSelf")


class CelSyntaxError(ValueError):
    """An expression that is none, or that calls a function which is not there."""


class CelError(Exception):
    """An error of an expression, such as a field that is not there: a rule that has one refuses."""


@cache
def compiled(expression: str) -> Callable[[Mapping[str, Any]], Any]:
    """Function of the values of the expression's variables: numbers, text, lists and maps.

    It raises CelError where CEL has an error. Raises CelSyntaxError for what cannot be compiled.
    """
    try:
        program = _environment().compile(expression)
    except RuntimeError as error:
        raise CelSyntaxError(f"{expression}: {error}") from error

    def value(scope: Mapping[str, Any]) -> Any:
        found = program.eval(data=dict(scope))
        if found.type() == cel.Type.ERROR:
            raise CelError(str(found.value()))
        return found.plain_value()

    return value


@cache
def _environment() -> Any:
    return cel.NewEnv(variables=dict.fromkeys(VARIABLES, cel.Type.DYN), functions=FUNCTIONS)
