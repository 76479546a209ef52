"""WanInferenceService.spec.gateway: the HTTP API and how it is reached."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from wan_operator.api.markers import rule, syntax
from wan_operator.api.v1alpha1.common import ApiModel, LocalObjectReference, rules
from wan_operator.api.v1alpha1.pods import CPU_WITHIN_LIMIT, PodTemplate
from wan_operator.api.v1alpha1.syntax import (
    Annotations,
    Bytes,
    Cpu,
    Hostname,
    ObjectName,
    PrivateHost,
)


class ParentReference(ApiModel):
    """Gateway of the Gateway API that takes requests for the service."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: ObjectName | None = None
    """Namespace of the Gateway. Default: that of the service."""
    section_name: ObjectName | None = None
    """Name of one listener of the Gateway. Default: all listeners."""


class HttpRoute(ApiModel):
    """HTTPRoute that is created for the service. The cluster must have the Gateway API."""

    parent_refs: Annotated[list[ParentReference], Field(min_length=1, max_length=8)]
    """Gateways that take requests for the service."""
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = Field(default=[])
    """Host names of the route. Default: all of the Gateway."""
    request_timeout: (
        Annotated[
            str,
            Field(max_length=32),
            syntax(
                "self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')", "must be a duration, such as 10m"
            ),
        ]
        | None
    ) = None
    """Duration after which the Gateway cuts a request, such as 10m; 0s means never. Progress is
    streamed as long as a video takes, and Envoy Gateway cuts after 15 s unless this is set.
    Default: left out of the route, since some Gateways refuse routes that set it."""


class Ingress(ApiModel):
    """Ingress that is created for the service."""

    class_name: ObjectName | None = None
    """Name of the IngressClass. Default: the cluster's default class."""
    host: Hostname
    """Host name of the service."""
    tls_secret_name: ObjectName | None = None
    """Name of the Secret with the TLS certificate. Default: no TLS."""
    annotations: Annotations = Field(default={})
    """Annotations of the Ingress, such as the one with which its controller allows request bodies
    of limits.uploadMebibytes."""


class GatewayResources(ApiModel):
    """CPU and memory of each gateway pod."""

    model_config = ConfigDict(json_schema_extra=rules(CPU_WITHIN_LIMIT))

    cpu: Cpu = "100m"
    """CPU request of each gateway pod."""
    cpu_limit: Cpu | None = None
    """CPU limit of each gateway pod, not below cpu. Default: no limit."""
    memory: Bytes = "256Mi"
    """Memory request and limit of each gateway pod."""


class Gateway(ApiModel):
    """HTTP API of the service: stateless pods without a GPU, and how clients reach them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.httpRoute) || !has(self.ingress)",
                "set at most one of httpRoute and ingress",
                ".ingress",
                reason="FieldValueForbidden",
            ),
        )
    )

    keys_secret_ref: LocalObjectReference
    """Secret with the API keys: each key of its data names an API key, and the value is the API
    key. Added and removed keys take effect within two minutes, without a restart."""
    webhook_secret_ref: LocalObjectReference | None = None
    """Secret with the key `secret`, which signs webhooks. A change takes effect within two minutes,
    without a restart. Default: no webhook is sent."""
    webhook_private_hosts: Annotated[list[PrivateHost], Field(max_length=32)] = Field(default=[])
    """Host names and CIDRs that webhooks may be sent to though they are not public, also over http
    and to any port, such as receiver.team-a.svc, *.team-a.svc.cluster.local or 10.20.0.0/16.
    Default: webhooks are sent to public addresses only, over https to port 443."""
    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of gateway pods. Each of them answers for all videos."""
    public_url: Annotated[
        str,
        Field(max_length=512),
        syntax(
            "self == '' || self.matches('^https?://[^/ ]+(/[^ ]*)?$')",
            "must be an http(s) URL",
        ),
    ] = ""
    """URL under which clients reach the gateway, which status.url then shows. Default: the host of
    ingress, if it is set, else the address within the cluster."""
    studio: bool = True
    """Whether to serve the studio, a page at /studio/ that makes videos in a browser."""
    http_route: HttpRoute | None = None
    """HTTPRoute that is created for the service. The cluster must have the Gateway API. Default:
    none."""
    ingress: Ingress | None = None
    """Ingress that is created for the service. Default: none."""
    resources: GatewayResources = GatewayResources()
    """CPU and memory of each gateway pod."""
    pod_template: PodTemplate = PodTemplate()
    """Settings of the gateway's pods, in addition to the operator's own."""
