"""Whether a live object already holds what is wanted, so that a reconcile at rest writes nothing.

What the live object has beside it is left alone: defaults of the API server, fields of other
managers. What is no longer wanted is noticed by the spec hash among the wanted annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wan_operator.resources.quantity import amount

# Lists whose elements the API server merges by these fields, under "<enclosing field>.<field>".
# All other lists are one value.
_KEYS = {
    "metadata.ownerReferences": ("uid",),
    "spec.containers": ("name",),
    "spec.initContainers": ("name",),
    "spec.volumes": ("name",),
    "spec.imagePullSecrets": ("name",),
    "spec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "spec.ports": ("port", "protocol"),
    "containers.env": ("name",),
    "containers.ports": ("containerPort", "protocol"),
    "containers.volumeMounts": ("mountPath",),
    "initContainers.env": ("name",),
    "initContainers.ports": ("containerPort", "protocol"),
    "initContainers.volumeMounts": ("mountPath",),
}
_WHOLE = frozenset(
    {"selector", "podSelector", "namespaceSelector", "nodeSelector", "ingress", "egress"}
)
"""One value with all that is below: a field that somebody adds there changes whom it selects."""
_MAPS = frozenset({"annotations", "labels", "nodeSelector", "matchLabels", "limits", "requests"})
"""Fields that the API server drops when they are empty. Other empty objects say something: an
`emptyDir: {}` is a volume, a `podSelector: {}` selects all pods."""
_DEFAULTS = {"protocol": "TCP"}
_QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})


def first_difference(wanted: Any, live: Any) -> str:
    """Where `live` does not hold what is wanted, such as `spec.containers[worker].image`; empty if
    it holds everything.

    A wanted None, "" or [], or an empty map, is held by a field that is not there. Other zero
    values are not: whether a missing `false` is the API server's way to spell it, or an edit,
    depends on the field.
    """
    return next(_differences(wanted, live, "", ("", "")), "")


def _differences(
    wanted: Any, live: Any, path: str, fields: tuple[str, str], whole: bool = False
) -> Iterator[str]:
    """`fields`: names of the enclosing field and of this one. `whole`: nothing may be beside."""
    whole = whole or fields[1] in _WHOLE
    if isinstance(wanted, dict) and isinstance(live, dict):
        for name, value in wanted.items():
            absent = name not in live
            if value is None or (absent and (value in ("", []) or (name in _MAPS and not value))):
                continue
            inner = f"{path}.{name}".lstrip(".")
            if absent:
                yield inner
            else:
                yield from _differences(value, live[name], inner, (fields[1], name), whole)
        for name in live.keys() - wanted.keys() if whole else ():
            if live[name] != _DEFAULTS.get(name):
                yield f"{path}.{name}"
    elif isinstance(wanted, list) and isinstance(live, list):
        keys = _KEYS.get(".".join(fields))
        pairs = _in_order(wanted, live) if keys is None else _by_key(wanted, live, keys)
        if pairs is None:
            yield path
        for name, ours, theirs in pairs or ():
            yield from _differences(ours, theirs, f"{path}[{name}]", fields, whole)
    elif wanted != live and not _same_quantity(wanted, live, fields):
        yield path


Pairs = list[tuple[str, Any, Any]]
"""(name in a path, wanted, live) of the elements of two lists."""


def _in_order(wanted: list[Any], live: list[Any]) -> Pairs | None:
    """None if the lists are not equally long."""
    if len(wanted) != len(live):
        return None
    return [(str(at), *pair) for at, pair in enumerate(zip(wanted, live, strict=True))]


def _by_key(wanted: list[Any], live: list[Any], keys: tuple[str, ...]) -> Pairs:
    """Others' elements are left out."""
    found = {_key(each, keys): each for each in live}
    return [
        (",".join(map(str, _key(each, keys))), each, found.get(_key(each, keys))) for each in wanted
    ]


def _key(element: dict[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(element.get(name, _DEFAULTS.get(name)) for name in keys)


def _same_quantity(wanted: Any, live: Any, fields: tuple[str, str]) -> bool:
    """The API server writes `0.5` CPUs as `500m` and `1024Mi` as `1Gi`."""
    return bool(_QUANTITIES & set(fields)) and _amount(wanted) == _amount(live)


def _amount(text: Any) -> Any:
    """The number that a quantity stands for; what is none stays as it is."""
    try:
        return amount(str(text))
    except ValueError:
        return text
