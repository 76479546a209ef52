"""Functions that Kubernetes adds to the Common Expression Language, as far as rules call them.

https://kubernetes.io/docs/reference/using-api/cel. An exception of one is an error of its rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from cel_expr_python.cel import FunctionDecl, Overload, Type

from wan_operator.resources.quantity import amount


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


def _quantity(text: str) -> str:
    """The text itself: there is no type for it, and a double would round."""
    amount(text)
    return text


def _is_quantity(text: str) -> bool:
    try:
        amount(text)
    except ValueError:
        return False
    return True


def _format(template: str, values: list[Any]) -> str:
    """Text with values in the places of `%s` and `%d`, of which alone it knows.

    The engine's own leaves out the quotes around the texts of a list, which Kubernetes writes.
    """
    rest = iter(values)
    return re.sub(r"%([sd%])", lambda each: "%" if each[1] == "%" else _text(next(rest)), template)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _declared(
    name: str, function: Callable[..., Any], returns: Type, *takes: Type, method: bool = True
) -> FunctionDecl:
    """Declaration of a function; a method is called on the first of what it takes."""
    overload = Overload(
        id=name, return_type=returns, parameters=takes, is_member=method, impl=function
    )
    return FunctionDecl(name, [overload])


_TEXT, _BOOL = Type.STRING, Type.BOOL
FUNCTIONS = [
    _declared("find", _find, _TEXT, _TEXT, _TEXT),
    _declared("format", _format, _TEXT, _TEXT, Type.List(Type.DYN)),
    _declared("isQuantity", _is_quantity, _BOOL, _TEXT, method=False),
    _declared("quantity", _quantity, _TEXT, _TEXT, method=False),
    _declared("isGreaterThan", lambda one, other: amount(one) > amount(other), _BOOL, _TEXT, _TEXT),
    _declared("isLessThan", lambda one, other: amount(one) < amount(other), _BOOL, _TEXT, _TEXT),
    _declared("replace", str.replace, _TEXT, _TEXT, _TEXT, _TEXT),
    _declared("split", str.split, Type.List(_TEXT), _TEXT, _TEXT),
]
