"""Settings of pods that all kinds share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import list_map, rule
from wan_operator.api.v1alpha1.common import MAX_INT32, ApiModel, LocalObjectReference, rules
from wan_operator.api.v1alpha1.scheduling import Affinity, TopologySpreadConstraint
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


Id = Annotated[int, Field(ge=1, le=MAX_INT32)]
"""ID of a user or group, which is not root."""


class SeLinuxOptions(ApiModel):
    """SELinux context of the containers."""

    level: Annotated[str, Field(min_length=1, max_length=256)]
    """SELinux level of the containers, such as s0:c123,c456."""


class PodSecurityContext(ApiModel):
    """User and groups of the pods, as in a pod spec. The rest of Pod Security `restricted` is set
    in any case: no root, no privileges, the runtime's default seccomp profile."""

    run_as_user: Id | None = None
    """User ID of the processes. Default: what the namespace gives, as on OpenShift, or the image's
    10001."""
    run_as_group: Id | None = None
    """Group ID of the processes. Default: what the namespace gives, or the image's."""
    fs_group: Id | None = None
    """Group ID of the volumes, through which the processes may write to them. Default: what the
    namespace gives, or none."""
    supplemental_groups: Annotated[list[Id], Field(max_length=16)] | None = None
    """Further group IDs of the processes, such as that of a shared file system."""
    fs_group_change_policy: Literal["OnRootMismatch", "Always"] | None = None
    """Whether the owner of every file in a volume is set each time, or only where that of its root
    is another. Default: OnRootMismatch."""
    se_linux_options: SeLinuxOptions | None = None
    """SELinux context of the containers. Default: what the namespace or the node gives."""


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
    runtime_class_name: ObjectName | None = None
    """Name of the RuntimeClass of the pods, such as nvidia. Default: the node's default runtime."""
    affinity: Affinity | None = None
    """Nodes, and other pods, that the pods must or should run on, near or away from. The operator
    adds a preference against the node that failed the attempt before."""
    topology_spread_constraints: Annotated[
        list[TopologySpreadConstraint],
        list_map("topologyKey", "whenUnsatisfiable"),
        Field(max_length=8),
    ] = Field(default=[])
    """Spread of the pods over places such as nodes or zones. Default: gateways are spread over
    nodes where possible."""
    security_context: PodSecurityContext | None = None
    """User and groups of the pods. If it is set, even empty, no ID is fixed but those given here:
    the namespace gives the others, as on OpenShift, or the image. Default: user, group and volume
    group 10001."""


CPU_WITHIN_LIMIT = rule(
    "!has(self.cpuLimit) || !has(self.cpu) || !isQuantity(self.cpu) || !isQuantity(self.cpuLimit) "
    "|| !quantity(self.cpuLimit).isLessThan(quantity(self.cpu))",
    "must not be below cpu",
    ".cpuLimit",
    computed="'must not be below cpu, %s; it is %s'.format([self.cpu, self.cpuLimit])",
)


class ResourceOverrides(ApiModel):
    """CPU, memory and scratch space of a pod."""

    model_config = ConfigDict(json_schema_extra=rules(CPU_WITHIN_LIMIT))

    cpu: Cpu | None = None
    """CPU request of the container, such as 8."""
    cpu_limit: Cpu | None = None
    """CPU limit of the container, not below cpu, in the pods of every step. Default: no limit, so
    that idle CPUs are used."""
    memory: Bytes | None = None
    """Memory request and limit of the container, such as 64Gi."""
    cache: Bytes | None = None
    """Size limit of the pod's scratch volume, such as 200Gi. It holds base weights and latents.
    Pods request as much ephemeral storage, but for those in a queue of Kueue."""
