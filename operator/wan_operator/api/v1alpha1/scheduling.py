"""Kubernetes' own types for the placement of pods, with its names, bounded for the API server.

They are typed rather than passed through, so that a misspelt field or a wrong operator is refused
when it is applied. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import list_set, rule
from wan_operator.api.v1alpha1.common import ApiModel, rules

Key = Annotated[
    str,
    # A pattern takes less room than a rule: the schema holds it some forty times.
    Field(
        max_length=317, pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
"""Key of a label."""
Value = Annotated[str, Field(max_length=63)]
"""Value of a label."""
Namespace = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]

Weight = Annotated[int, Field(ge=1, le=100)]
Keys = Annotated[list[Key], list_set(), Field(max_length=8)]

VALUES = rule(
    "self.operator in ['Exists', 'DoesNotExist'] == (!has(self.values) || self.values.size() == 0)",
    "Exists and DoesNotExist take no values, the other operators need some",
    ".values",
)


class LabelSelectorRequirement(ApiModel):
    """Requirement on one label of an object."""

    model_config = ConfigDict(json_schema_extra=rules(VALUES))

    key: Key
    """Key of the label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """Comparison of the label with the values."""
    values: Annotated[list[Value], list_set(), Field(max_length=16)] | None = None
    """Values for In and NotIn."""


class LabelSelector(ApiModel):
    """Selection of objects by labels; an empty one selects all."""

    match_labels: Annotated[dict[str, Value], Field(max_length=16)] | None = None
    """Labels that an object must have."""
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=8)] | None = None
    """Requirements on labels that an object must meet."""


class NodeSelectorRequirement(ApiModel):
    """Requirement on one label or field of a node."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            VALUES,
            rule(
                "!(self.operator in ['Gt', 'Lt']) || !has(self.values) || "
                "self.values.size() == 1 && self.values[0].matches('^-?[0-9]{1,18}$')",
                "Gt and Lt take one whole number",
                ".values",
            ),
        )
    )

    key: Key
    """Key of the node's label, or metadata.name in matchFields."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """Comparison of the label with the values."""
    values: (
        Annotated[list[Annotated[str, Field(max_length=253)]], list_set(), Field(max_length=32)]
        | None
    ) = None
    """Values for In and NotIn, or the one whole number for Gt and Lt."""


class NodeSelectorTerm(ApiModel):
    """Selection of nodes. All requirements must hold; a term without any selects no node."""

    match_expressions: Annotated[list[NodeSelectorRequirement], Field(max_length=8)] | None = None
    """Requirements on labels of the node."""
    match_fields: Annotated[list[NodeSelectorRequirement], Field(max_length=4)] | None = None
    """Requirements on fields of the node, of which Kubernetes knows metadata.name."""


class PreferredSchedulingTerm(ApiModel):
    """Preference for nodes."""

    weight: Weight
    """Weight of the preference, added up over all that a node meets."""
    preference: NodeSelectorTerm
    """Nodes that are preferred."""


class NodeSelector(ApiModel):
    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=8)]
    """Terms of which a node must meet one."""


class NodeAffinity(ApiModel):
    """Nodes that the pods must or should run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Nodes that the pods must run on."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredSchedulingTerm], Field(max_length=8)] | None
    ) = None
    """Nodes that the pods should run on."""


class PodAffinityTerm(ApiModel):
    """Selection of other pods, and how near a node is to them."""

    label_selector: LabelSelector | None = None
    """Selection of the other pods. Left out, it selects none."""
    topology_key: Key
    """Label of nodes. Nodes with the same value of it count as one place."""
    namespaces: Annotated[list[Namespace], list_set(), Field(max_length=8)] | None = None
    """Namespaces of the other pods. Default: the namespace of the pods."""
    namespace_selector: LabelSelector | None = None
    """Selection of namespaces of the other pods, in addition to namespaces. An empty selector
    selects all."""


class WeightedPodAffinityTerm(ApiModel):
    """Preference for places near other pods, or away from them."""

    weight: Weight
    """Weight of the preference, added up over all that a node meets."""
    pod_affinity_term: PodAffinityTerm
    """Other pods, and how near a node is to them."""


class PodAffinity(ApiModel):
    """Other pods that the pods must or should run near, or away from."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodAffinityTerm], Field(max_length=8)] | None
    ) = None
    """Terms that a node must meet."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[WeightedPodAffinityTerm], Field(max_length=8)] | None
    ) = None
    """Terms that a node should meet."""


class Affinity(ApiModel):
    """Rules for the nodes of the pods, as in a pod spec."""

    node_affinity: NodeAffinity | None = None
    """Nodes that the pods must or should run on."""
    pod_affinity: PodAffinity | None = None
    """Other pods that the pods must or should run near."""
    pod_anti_affinity: PodAffinity | None = None
    """Other pods that the pods must not or should not run near."""


class TopologySpreadConstraint(ApiModel):
    """Spread of the pods over places such as nodes or zones, as in a pod spec."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
                "minDomains applies to DoNotSchedule only",
                ".minDomains",
                reason="FieldValueForbidden",
            ),
        )
    )

    max_skew: Annotated[int, Field(ge=1, le=1000)]
    """Largest difference between the numbers of pods in two places."""
    topology_key: Key
    """Label of nodes. Nodes with the same value of it count as one place."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """Whether a pod waits where the difference would be larger, or is placed all the same."""
    label_selector: LabelSelector | None = None
    """Selection of the pods that are counted. Default: those of the same resource and part."""
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Smallest number of places to spread over, for DoNotSchedule."""
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    """Whether nodes that the pods cannot run on by their selector and affinity are left out.
    Default: Honor."""
    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    """Whether nodes with taints that the pods do not tolerate are left out. Default: Ignore."""
    match_label_keys: Keys | None = None
    """Keys of labels whose values the counted pods must share with the pods."""
