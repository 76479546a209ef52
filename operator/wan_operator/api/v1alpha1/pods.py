"""Settings of pods that all kinds share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import list_map, rule
from wan_operator.api.v1alpha1.common import MAX_INT32, ApiModel, LocalObjectReference, rules
from wan_operator.api.v1alpha1.syntax import (
    Annotations,
    Bytes,
    Cpu,
    LabelKey,
    Labels,
    LabelValue,
    ObjectName,
)


class Toleration(ApiModel):
    """Toleration of a node taint, as in a pod spec."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                "without a key, operator must be Exists, which tolerates every taint",
                ".operator",
            ),
            rule(
                "!has(self.operator) || self.operator != 'Exists' || "
                "!has(self.value) || self.value == ''",
                "the operator Exists takes no value: leave it out, or use Equal",
                ".value",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "tolerationSeconds applies to the effect NoExecute only",
                ".effect",
            ),
        )
    )

    key: LabelKey | None = None
    """Key of the taint to tolerate. Left out, with the operator Exists, it matches every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """Comparison of the taint's value: Equal, or Exists for any value. Default: Equal."""
    value: LabelValue | None = None
    """Value of the taint to tolerate, for the operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint to tolerate. Default: all effects."""
    toleration_seconds: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    """Seconds for which a pod stays on a node with a NoExecute taint before it is evicted. Default:
    no limit."""


class PodTemplate(ApiModel):
    """Pod settings in addition to the operator's own, with the names of a pod spec."""

    labels: Labels = Field(default={})
    """Labels added to each pod. Labels that the operator sets take precedence."""
    annotations: Annotations = Field(default={})
    """Annotations added to each pod."""
    node_selector: Labels = Field(default={})
    """Labels that a node must have to run the pods. For pods on GPUs, a value of
    nvidia.com/gpu.product also sets the GPU type that plans are made for."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(default=[])
    """Node taints that the pods tolerate."""
    priority_class_name: ObjectName | None = None
    """Name of the PriorityClass of the pods. Default: the cluster's default class."""
    image_pull_secrets: Annotated[
        list[LocalObjectReference], list_map("name"), Field(max_length=16)
    ] = Field(default=[])
    """Secrets for pulling images, in addition to those of the operator's settings."""
    service_account_name: ObjectName | None = None
    """Name of the ServiceAccount of the pods, whose token is not mounted. Default: the namespace's
    default ServiceAccount."""


class ResourceOverrides(ApiModel):
    """CPU, memory and scratch space of a pod."""

    cpu: Cpu | None = None
    """CPU request of the container, such as 8."""
    memory: Bytes | None = None
    """Memory request and limit of the container, such as 64Gi."""
    cache: Bytes | None = None
    """Size limit of the pod's scratch volume, such as 200Gi. It holds base weights and latents."""
