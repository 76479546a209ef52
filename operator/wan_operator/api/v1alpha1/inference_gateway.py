"""WanInferenceService.spec.gateway: the HTTP API and how it is reached."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, rule
from wan_operator.api.v1alpha1.common import (
    ApiModel,
    LocalObjectReference,
    ObjectName,
    PodTemplate,
    rules,
)
from wan_operator.api.v1alpha1.finetune import Quantity

Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Cel(
        "self.matches('^([*][.])?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "must be a host name, such as videos.example.com",
    ),
]


class ParentReference(ApiModel):
    name: ObjectName
    """Of the Gateway."""
    namespace: ObjectName | None = None
    """Its namespace. Default: this one."""
    section_name: ObjectName | None = None
    """One listener of it. Default: all."""


class HttpRoute(ApiModel):
    """For a Gateway of the Gateway API, which must be installed."""

    parent_refs: Annotated[list[ParentReference], Field(min_length=1, max_length=8)]
    """Gateways that take its requests."""
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = Field(default=[])
    """Default: all of the Gateway."""
    request_timeout: (
        Annotated[
            str,
            Field(max_length=32),
            Cel("self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')", "must be a duration, such as 10m"),
        ]
        | None
    ) = None
    """After which the Gateway cuts a request; 0s: never. Progress is streamed as long as a video
    takes, and Envoy Gateway by itself cuts after 15 s. Default: not said, for there are Gateways
    that take no route that says one."""


class Ingress(ApiModel):
    class_name: ObjectName | None = None
    """IngressClass. Default: the cluster's."""
    host: Hostname
    """Whose requests it takes."""
    tls_secret_name: ObjectName | None = None
    """Secret with the certificate. Default: no TLS."""
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)
    ] = Field(default={})
    """For the ingress controller: raise its limit of the body to that of uploads."""


class GatewayResources(ApiModel):
    cpu: Quantity = "100m"
    """Requested."""
    memory: Quantity = "256Mi"
    """Requested, and the limit."""


class Gateway(ApiModel):
    """Stateless pods without a GPU."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.httpRoute) || !has(self.ingress)",
                "set one of httpRoute and ingress",
                ".ingress",
                reason="FieldValueForbidden",
            ),
        )
    )

    keys_secret_ref: LocalObjectReference
    """Secret: each key of its data names an API key, the value is the key.
    Added and removed ones are heeded without a restart."""
    webhook_secret_ref: LocalObjectReference | None = None
    """Secret with the key `secret`, which signs webhooks. Default: no webhook is sent."""
    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    """Any of them answers for all videos."""
    public_url: Annotated[
        str,
        Field(max_length=512),
        Cel(
            "self == '' || self.matches('^https?://[^/ ]+(/[^ ]*)?$')",
            "must be an http(s) URL",
        ),
    ] = ""
    """Under which clients reach it, for links in webhooks. Default: of the Ingress, if there is
    one."""
    studio: bool = True
    """Serve the page that makes videos in a browser, at /studio/."""
    http_route: HttpRoute | None = None
    """Makes an HTTPRoute."""
    ingress: Ingress | None = None
    """Makes an Ingress."""
    resources: GatewayResources = GatewayResources()
    """Of each of its pods."""
    pod_template: PodTemplate = PodTemplate()
    """Of its pods."""
