"""The registry of the kinds of custom resources that the operator serves, one file a kind.

The engine around the decisions (kube, controller, sweep, handlers) and the generator of the CRDs
know none of them by name: they go by this registry.
"""

from __future__ import annotations

from wan_operator.kinds.evaluation import EVALUATION
from wan_operator.kinds.finetune import FINETUNE
from wan_operator.kinds.kind import Follows, Kind, Page
from wan_operator.kinds.service import SERVICE
from wan_operator.reconcile.observed import Key, Raw, label

__all__ = [
    "EVALUATION",
    "FINETUNE",
    "KINDS",
    "SERVICE",
    "Follows",
    "Kind",
    "Page",
    "key_of",
    "owner_of",
]

KINDS = {kind.name: kind for kind in (FINETUNE, SERVICE, EVALUATION)}


def key_of(kind: str, cr: Raw) -> Key:
    return Key(kind, cr["metadata"]["namespace"], cr["metadata"]["name"])


def owner_of(child: Raw) -> Key | None:
    """Key of the owner that the labels of a child name. Labels prove nothing: decisions check the
    owner reference."""
    named = ((kind.name, label(child, kind.label)) for kind in KINDS.values())
    namespace = child["metadata"]["namespace"]
    return next((Key(kind, namespace, name) for kind, name in named if name), None)
