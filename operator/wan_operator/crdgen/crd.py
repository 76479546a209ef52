"""The custom resource definitions: what surrounds the schemas of spec and status."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from pydantic import BaseModel

from wan_operator.api.markers import RULES, Schema, rule
from wan_operator.api.v1alpha1.common import CATEGORY, GROUP, VERSION
from wan_operator.crdgen.schema import explained, structural, unwrapped


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    """Shown with `-o wide` only."""
    description: str

    def manifest(self) -> Schema:
        column = {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            "description": self.description,
        }
        return {**column, "priority": 1} if self.wide else column


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A kind of custom resource, for its CRD and the reference."""

    name: str
    plural: str
    short: str
    spec: type[BaseModel]
    status: type[BaseModel]
    name_limit: int
    columns: tuple[Column, ...]
    example: str
    """Path of the manifest shown in the reference."""
    rules: tuple[Schema, ...] = ()
    """Rules over spec and status together."""
    scalable: bool = False
    """Has spec.replicas, status.replicas and status.selector, for `kubectl scale` and autoscalers.
    """

    @property
    def file_name(self) -> str:
        return f"{GROUP}_{self.plural}.yaml"

    @property
    def subresources(self) -> Schema:
        scale = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
        return {"status": {}} | ({"scale": scale} if self.scalable else {})

    @property
    def description(self) -> str:
        return unwrapped(inspect.cleandoc(self.spec.__doc__ or ""))

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """Its own columns and those that all kinds end with; the message, which may be long, stands
        last."""
        return (*self.columns, _AGE, _MESSAGE)

    def schema(self) -> Schema:
        """Schema of a whole object."""
        limit = self.name_limit
        return {
            "description": self.description,
            "type": "object",
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                # Only name and generateName may be named here; it gives the rules below their field
                # path.
                "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
                "spec": {**structural(self.spec), "description": "Desired state."},
                "status": {
                    **structural(self.status, defaults=False),
                    "description": "Observed state, written by the operator.",
                    # Without it, kstatus calls what nobody has reconciled yet Current.
                    "default": {"observedGeneration": -1},
                },
            },
            RULES: [
                rule(
                    f"self.metadata.name.size() <= {limit}",
                    f"may have at most {limit} characters: the names of its children begin with it",
                    ".metadata.name",
                    reason="FieldValueForbidden",
                ),
                rule(
                    "!self.metadata.name.contains('.')",
                    "must not contain '.': host names of its pods begin with it",
                    ".metadata.name",
                    reason="FieldValueForbidden",
                ),
                *self.rules,
            ],
        }

    def manifest(self) -> Schema:
        """The CustomResourceDefinition."""
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self.plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {
                    "kind": self.name,
                    "listKind": f"{self.name}List",
                    "plural": self.plural,
                    "singular": self.name.lower(),
                    "shortNames": [self.short],
                    "categories": [CATEGORY],
                },
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "storage": True,
                        "subresources": self.subresources,
                        "additionalPrinterColumns": [
                            column.manifest() for column in self.all_columns
                        ],
                        "schema": {"openAPIV3Schema": explained(self.schema())},
                    }
                ],
            },
        }


# The table shows the first match of a path: the most informative condition stands first.
_TRUE_CONDITION = '.status.conditions[?(@.status=="True")]'
STATE_COLUMNS = (
    Column(
        name="State",
        path=f"{_TRUE_CONDITION}.type",
        description="Condition that says most about the state.",
    ),
    Column(
        name="Reason", path=f"{_TRUE_CONDITION}.reason", description="Reason of that condition."
    ),
)
_MESSAGE = Column(
    name="Message",
    path=f"{_TRUE_CONDITION}.message",
    wide=True,
    description="Message of that condition: the cause, and what helps.",
)
_AGE = Column(
    name="Age",
    path=".metadata.creationTimestamp",
    type="date",
    description="Time since creation.",
)
MODEL_COLUMN = Column(name="Model", path=".spec.model.preset", wide=True, description="Base model.")
