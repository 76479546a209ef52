"""Parts that all kinds share: the base model, the store, pod settings, conditions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from wan_operator.api.markers import RULES, Cel, Schema, list_map

GROUP = "wan-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "wan"
MAX_BUCKETS = 16
MAX_INT32 = 2**31 - 1
"""The API server's own limit for seconds of a Job."""
MAX_EXACT = 2**53 - 1
"""Largest whole number that JSON carries exactly; the bounds in a schema are stored as JSON
numbers."""

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Cel(
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "must be the name of an object: lower-case letters, digits, '-' and '.'",
    ),
]
LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]
S3Uri = Annotated[
    str,
    Field(max_length=1024),
    Cel(
        "self.matches('^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$')",
        "must be an S3 address: s3://bucket/path",
    ),
]
Count = Annotated[int, Field(ge=0, le=MAX_INT32)]
StepId = Annotated[str, Field(max_length=32)]
Name = Annotated[str, Field(max_length=253)]
"""Name of a Kubernetes object."""
Short = Annotated[str, Field(max_length=64)]
Amount = Annotated[float, Field(ge=0, le=MAX_EXACT)]
Sha256 = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]{64}$")]


class ApiModel(BaseModel):
    """camelCase on the wire. Docstrings under fields become the CRD's descriptions and the API
    reference.

    Unknown fields are ignored when reading: objects stored by a newer release must not break this
    one. The API server prunes what the schema does not name, and kubectl refuses it.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


class SecretReference(ApiModel):
    name: ObjectName
    """Name of a Secret in the same namespace with the keys `accessKey` and `secretKey`."""


class ConfigMapKey(ApiModel):
    name: ObjectName
    """Name of a ConfigMap in the same namespace."""
    key: Annotated[
        str,
        Field(min_length=1, max_length=253),
        Cel(
            "self.matches('^[-._a-zA-Z0-9]+$')", "must be a key: letters, digits, '-', '_' and '.'"
        ),
    ] = "ca.crt"
    """Key in the ConfigMap's data."""


class Store(ApiModel):
    """S3-compatible bucket. Fields left out come from the operator's settings;
    status.effective.store shows the values in use."""

    endpoint: (
        Annotated[
            str,
            Field(max_length=512),
            Cel(
                "self.matches('^https?://[^/ ]+$')", "must be http(s)://host[:port] without a path"
            ),
        ]
        | None
    ) = None
    """URL of the S3 API as http(s)://host[:port], without a path. Default: the Helm value
    store.endpoint."""
    bucket: (
        Annotated[
            str,
            Field(min_length=3, max_length=63),
            Cel(
                "self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$')",
                "must be a bucket name: lower-case letters, digits, '.' and '-'",
            ),
        ]
        | None
    ) = None
    """Name of the bucket, which must exist. Default: the Helm value store.bucket."""
    prefix: (
        Annotated[
            str,
            Field(max_length=512),
            Cel(
                "self == '' || (self.matches('^[^/ ]([^ ]*[^/ ])?$') && !self.contains('//'))",
                "must not start or end with '/' and hold no '//' and no space",
            ),
        ]
        | None
    ) = None
    """Key prefix of everything that is written, without '/' at either end. Whoever may write below
    a prefix is trusted by all who use it, since they share latents and imported base models.
    Default: the Helm value store.prefix."""
    region: (
        Annotated[
            str,
            Field(min_length=1, max_length=64),
            Cel("self.matches('^[a-z0-9-]+$')", "must be a region, such as us-east-1"),
        ]
        | None
    ) = None
    """S3 region. MinIO accepts us-east-1 unless it is configured otherwise. Default: the Helm value
    store.region."""
    ca_bundle: ConfigMapKey | None = None
    """ConfigMap key with the PEM bundle of the private certificate authority that signed the
    store's certificate. Default: the Helm value store.caBundle if the endpoint is that of the Helm
    values, else the public authorities of the image."""
    secret_ref: SecretReference | None = None
    """Secret with the credentials. Pods read it; the operator has no access to Secrets. Default:
    the Helm value store.secretName."""


class LocalObjectReference(ApiModel):
    name: ObjectName
    """Name of the object, in the same namespace."""


class Toleration(ApiModel):
    """Toleration of a node taint, as in a pod spec."""

    key: Annotated[str, Field(max_length=316)] | None = None
    """Key of the taint to tolerate. Left out, with the operator Exists, it matches every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """Comparison of the taint's value: Equal, or Exists for any value. Default: Equal."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Value of the taint to tolerate, for the operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint to tolerate. Default: all effects."""
    toleration_seconds: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    """Seconds for which a pod stays on a node with a NoExecute taint before it is evicted. Default:
    no limit."""


class PodTemplate(ApiModel):
    """Pod settings in addition to the operator's own, with the names of a pod spec."""

    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] = {}
    """Labels added to each pod. Labels that the operator sets take precedence."""
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)
    ] = {}
    """Annotations added to each pod."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] = {}
    """Labels that a node must have to run the pods. For pods on GPUs, a value of
    nvidia.com/gpu.product also sets the GPU type that plans are made for."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = []
    """Node taints that the pods tolerate."""
    priority_class_name: ObjectName | None = None
    """Name of the PriorityClass of the pods. Default: the cluster's default class."""
    image_pull_secrets: Annotated[
        list[LocalObjectReference], list_map("name"), Field(max_length=16)
    ] = []
    """Secrets for pulling images, in addition to those of the operator's settings."""
    service_account_name: ObjectName | None = None
    """Name of the ServiceAccount of the pods, whose token is not mounted. Default: the namespace's
    default ServiceAccount."""


class Condition(ApiModel):
    """Condition: one aspect of the current state."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Type of the condition, from the list in the API reference."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Cause of the status: a CamelCase word from the closed list in the API reference."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Explanation for people, with names and numbers."""
    last_transition_time: datetime
    """Time at which the status last changed."""
    observed_generation: Annotated[int, Field(ge=0, le=MAX_EXACT)] | None = None
    """Generation of the spec that the condition describes."""


class Artifact(ApiModel):
    """Files committed to the store. Their manifest lists every file with size and checksum."""

    uri: Annotated[str, Field(max_length=2048)]
    """S3 address of the artifact's manifest.json."""
    sha256: Sha256
    """SHA-256 checksum of the manifest."""


def rules(*rules_: Schema) -> dict[str, Any]:
    """`json_schema_extra` of a model: CEL rules over its fields."""
    return {RULES: list(rules_)}


class EffectiveStore(ApiModel):
    """Store in use."""

    endpoint: Annotated[str, Field(max_length=512)]
    """URL of the S3 API as http(s)://host[:port]."""
    bucket: Short
    """Name of the bucket."""
    prefix: Annotated[str, Field(max_length=512)]
    """Key prefix of everything that is written."""
    region: Short
    """S3 region."""
    secret_name: Name
    """Name of the Secret with the credentials, which the pods read."""


Quantity = Annotated[
    str, Field(max_length=32), Cel("isQuantity(self)", "must be a quantity, such as 8 or 64Gi")
]


class ResourceOverrides(ApiModel):
    """CPU, memory and scratch space of a pod."""

    cpu: Quantity | None = None
    """CPU request of the container, such as 8."""
    memory: Quantity | None = None
    """Memory request and limit of the container, such as 64Gi."""
    cache: Quantity | None = None
    """Size limit of the pod's scratch volume, such as 200Gi. It holds base weights and latents."""
