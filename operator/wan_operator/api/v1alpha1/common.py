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
"""Of a number in JSON; a schema's bounds are stored as such."""

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
    """Key within it."""


class Store(ApiModel):
    """An S3-compatible bucket. Fields left out come from the operator's settings; see
    status.effective.store."""

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
    """http(s)://host[:port] of the S3 API."""
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
    """Name of the bucket. It must exist."""
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
    """Everything is written below it. Runs that share a prefix share the latent cache, so it is the
    trust boundary."""
    region: (
        Annotated[
            str,
            Field(min_length=1, max_length=64),
            Cel("self.matches('^[a-z0-9-]+$')", "must be a region, such as us-east-1"),
        ]
        | None
    ) = None
    """S3 region. MinIO answers to us-east-1."""
    ca_bundle: ConfigMapKey | None = None
    """ConfigMap key with the PEM bundle of a private certificate authority."""
    secret_ref: SecretReference | None = None
    """Credentials. Mounted by the pods; the operator never reads Secrets."""


class LocalObjectReference(ApiModel):
    name: ObjectName
    """Name of an object in the same namespace."""


class Toleration(ApiModel):
    key: Annotated[str, Field(max_length=316)] | None = None
    """Of the taint. Left out with the operator Exists: every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """Default: Equal."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Of the taint, with Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Left out: all effects."""
    toleration_seconds: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    """How long a NoExecute taint is borne. Default: for ever."""


class PodTemplate(ApiModel):
    """What differs from the operator's own pod settings, in the words of a pod spec."""

    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] = {}
    """Added to each pod; the operator's own win."""
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)
    ] = {}
    """Added to each pod."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] = {}
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = []
    """Taints that are borne."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    image_pull_secrets: Annotated[
        list[LocalObjectReference], list_map("name"), Field(max_length=16)
    ] = []
    """Added to those of the operator's settings."""
    service_account_name: ObjectName | None = None
    """Its token is not mounted: the workloads need none."""


class Condition(ApiModel):
    type: Annotated[str, Field(min_length=1, max_length=316)]
    """From the list in the API reference."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """CamelCase word from the closed list in the API reference."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """For people, with names and numbers."""
    last_transition_time: datetime
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0, le=MAX_EXACT)] | None = None
    """Generation of the spec that it speaks of."""


class Artifact(ApiModel):
    """A committed set of files: its manifest lists every file with size and checksum."""

    uri: Annotated[str, Field(max_length=2048)]
    """s3:// address of manifest.json."""
    sha256: Sha256
    """Of the manifest."""


def rules(*rules_: Schema) -> dict[str, Any]:
    """`json_schema_extra` of a model: CEL rules over its fields."""
    return {RULES: list(rules_)}
