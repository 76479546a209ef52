"""How a service is reached, and what may reach it."""

from __future__ import annotations

from wan_operator.api.v1alpha1.inference import Gateway
from wan_operator.resources.labels import SPEC_HASH, Manifest, Owner, content_hash
from wan_operator.resources.service.gateway import PORT
from wan_operator.resources.service.names import Part, child, name_of, selector
from wan_runtime.contract.job import PROGRESS_PORT

HTTP = 80


def service(owner: Owner) -> Manifest:
    """Service of the gateways, under the resource's own name."""
    spec = {
        "type": "ClusterIP",
        "selector": selector(owner, Part.GATEWAY),
        "ports": [{"name": "http", "port": HTTP, "targetPort": "http", "protocol": "TCP"}],
    }
    return child(owner, "v1", "Service", owner.name, Part.GATEWAY, spec=spec)


def url(owner: Owner, gateway: Gateway) -> str:
    """For clients."""
    if gateway.public_url:
        return gateway.public_url.rstrip("/")
    if gateway.ingress is not None and not gateway.ingress.host.startswith("*"):
        scheme = "https" if gateway.ingress.tls_secret_name else "http"
        return f"{scheme}://{gateway.ingress.host}"
    return f"http://{owner.name}.{owner.namespace}.svc"


def exposed(owner: Owner, gateway: Gateway) -> list[Manifest]:
    """The Ingress or HTTPRoute that the spec asks for."""
    if gateway.ingress is not None:
        return [ingress(owner, gateway)]
    return [] if gateway.http_route is None else [http_route(owner, gateway)]


def ingress(owner: Owner, gateway: Gateway) -> Manifest:
    wanted = gateway.ingress
    assert wanted is not None
    backend = {"service": {"name": owner.name, "port": {"number": HTTP}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec: Manifest = {"rules": [{"host": wanted.host, "http": {"paths": [path]}}]}
    if wanted.class_name:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret_name:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret_name}]
    made = child(owner, "networking.k8s.io/v1", "Ingress", owner.name, Part.GATEWAY, spec=spec)
    # In the hash too: by it, one that is wanted no more is noticed.
    hashed = content_hash({"spec": spec, "annotations": wanted.annotations})
    made["metadata"]["annotations"] = wanted.annotations | {SPEC_HASH: hashed}
    return made


def http_route(owner: Owner, gateway: Gateway) -> Manifest:
    wanted = gateway.http_route
    assert wanted is not None
    parents = [each.model_dump(by_alias=True, exclude_none=True) for each in wanted.parent_refs]
    backend = {"kind": "Service", "name": owner.name, "port": HTTP}
    match = {"path": {"type": "PathPrefix", "value": "/"}}
    rule: Manifest = {"matches": [match], "backendRefs": [backend]}
    if wanted.request_timeout:
        rule["timeouts"] = {"request": wanted.request_timeout}
    spec: Manifest = {"parentRefs": parents, "rules": [rule]}
    if wanted.hostnames:
        spec["hostnames"] = wanted.hostnames
    return child(
        owner, "gateway.networking.k8s.io/v1", "HTTPRoute", owner.name, Part.GATEWAY, spec=spec
    )


def policies(owner: Owner) -> list[Manifest]:
    """The API for everybody; the pages, which name every video, for the cluster's pods alone."""
    pages = {
        "from": [{"namespaceSelector": {}}],
        "ports": [{"port": PROGRESS_PORT, "protocol": "TCP"}],
    }
    http = {"ports": [{"port": PORT, "protocol": "TCP"}]}
    gateway = _policy(owner, owner.name, selector(owner, Part.GATEWAY), [http, pages])
    return [gateway, _policy(owner, name_of(owner, "pages"), {owner.label: owner.name}, [pages])]


def _policy(owner: Owner, name: str, pods: dict[str, str], ingress: list[Manifest]) -> Manifest:
    spec = {
        "podSelector": {"matchLabels": pods},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    }
    return child(owner, "networking.k8s.io/v1", "NetworkPolicy", name, Part.GATEWAY, spec=spec)


def budgets(owner: Owner) -> list[Manifest]:
    """A drained node takes one pod of a part at a time; a worker ends its video first."""
    return [_budget(owner, part) for part in (Part.GATEWAY, Part.WORKER)]


def _budget(owner: Owner, part: Part) -> Manifest:
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(owner, part)},
        # Else pods that cannot start use the budget up, and no node of theirs can be drained.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    name = name_of(owner, part)
    return child(owner, "policy/v1", "PodDisruptionBudget", name, part, spec=spec)
