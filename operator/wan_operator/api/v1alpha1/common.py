"""Parts that all kinds share: the base model, the store, pod settings, conditions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from wan_operator.api.markers import RULES, Schema, syntax
from wan_operator.api.v1alpha1.syntax import BUCKET, PREFIX, ObjectName

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
    """Name of a Secret in the same namespace with the keys `accessKey` and `secretKey`; temporary
    credentials have `sessionToken` too. Pods follow its changes, without a restart."""


DataKey = Annotated[
    str,
    Field(min_length=1, max_length=253),
    syntax("self.matches('^[-._a-zA-Z0-9]+$')", "must be a key: letters, digits, '-', '_' and '.'"),
]


class ConfigMapKey(ApiModel):
    name: ObjectName
    """Name of a ConfigMap in the same namespace."""
    key: DataKey = "ca.crt"
    """Key in the ConfigMap's data."""


class Store(ApiModel):
    """S3-compatible bucket. Fields left out come from the operator's settings;
    status.effective.store shows the values in use."""

    endpoint: (
        Annotated[
            str,
            Field(max_length=512),
            syntax(
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
            BUCKET,
        ]
        | None
    ) = None
    """Name of the bucket, which must exist. Default: the Helm value store.bucket."""
    prefix: (
        Annotated[
            str,
            Field(max_length=512),
            PREFIX,
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
            syntax("self.matches('^[a-z0-9-]+$')", "must be a region, such as us-east-1"),
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
