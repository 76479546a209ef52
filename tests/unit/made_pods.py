"""Every kind of pod that the operator makes, as its own decisions make it, and how NetworkPolicies
are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from unit.controller import service_world, world
from unit.controller.evaluation_world import BASE, BUCKET, RATINGS, EvaluationWorld
from wan_operator.kinds import FINETUNE, SERVICE

Raw = dict[str, Any]
TEAM = "team"
"""Namespace of all that the operator makes here."""
TWO_NODES: Raw = {
    "parallelism": {"nodes": 2, "gpusPerNode": 4},
    "training": {"gradientAccumulation": 8},
}


@dataclass(frozen=True)
class Pod:
    """By what policies know it, and what tells what it needs."""

    labels: dict[str, str]
    namespace: str = TEAM
    spec: Raw | None = None

    @property
    def container(self) -> Raw:
        assert self.spec is not None
        [only] = self.spec["containers"]
        found: Raw = only
        return found

    @property
    def variables(self) -> set[str]:
        return {each["name"] for each in self.container["env"]}

    @property
    def ports(self) -> dict[str, int]:
        return {each["name"]: each["containerPort"] for each in self.container.get("ports", ())}

    @property
    def command(self) -> str:
        """First argument of `wan-runtime`."""
        return str(self.container["args"][0])

    def __str__(self) -> str:
        return f"{self.labels['app.kubernetes.io/name']} {self.command}"


def of(template: Raw) -> Pod:
    return Pod(template["metadata"]["labels"], spec=template["spec"])


@cache
def made() -> tuple[Pod, ...]:
    """One of each kind at least."""
    return tuple(of(each["spec"]["template"]) for each in _owners())


@cache
def policies() -> tuple[Raw, ...]:
    """NetworkPolicies that the operator makes for services and rating pages."""
    rated = rating()
    return (*serving().listed("NetworkPolicy"), *rated.others["NetworkPolicy"].values())


def _owners() -> Iterator[Raw]:
    """Jobs and Deployments."""
    model = {"preset": "Wan2.1-I2V-14B-480P", "source": BUCKET}
    pair = {"preset": "Wan2.2-I2V-Tiny"}
    tuned = world.World(model=model, validation={"samples": 1})
    for run, last in (
        (tuned, "sample"),
        (world.World(**TWO_NODES), "train"),
        (world.World(model=pair, parallelism={"experts": "Sequential"}), "export"),
        (world.World(model=pair, parallelism={"experts": "Joint"}), "export"),
    ):
        run.reach(last)
        yield from run.jobs.values()
    yield from FINETUNE.left(tuned.cr, tuned.settings, tuned.now)
    rated = rating()
    rated.compare()
    yield from rated.jobs.values()
    served = serving()
    yield from served.listed("Deployment")
    yield from SERVICE.left(served.cr, served.settings, served.now)
    imports = service_world.World(service_world.example("minimal"))
    imports.turn()
    yield from imports.listed("Job")


def rating() -> EvaluationWorld:
    """An evaluation of a service and a model, whose page is open."""
    key = {"name": "wan-keys", "key": "studio"}
    live = {"name": "live", "serviceRef": {"name": "videos", "model": "anime", "keySecretRef": key}}
    run = EvaluationWorld(candidates=[BASE, live], ratings=RATINGS)
    run.open_page()
    return run


def serving() -> service_world.World:
    """A service with a canary."""
    run = service_world.World(service_world.tiny(rollout={"strategy": "Canary"}))
    run.settle()
    run.cr["spec"]["workers"] = {"drainSeconds": 77}
    run.turn()
    return run


# -- Policies


def selects(selector: Raw, labels: dict[str, str]) -> bool:
    """As Kubernetes reads a label selector, of the operators that are used."""
    met: dict[str, Callable[[Raw], bool]] = {
        "Exists": lambda each: each["key"] in labels,
        "In": lambda each: labels.get(each["key"]) in each["values"],
    }
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        met[each["operator"]](each) for each in selector.get("matchExpressions", ())
    )


@dataclass(frozen=True)
class Network:
    """What a cluster's network plugin lets through."""

    policies: tuple[Raw, ...]

    def passes(self, source: Pod | None, target: Pod | None, port: int) -> bool:
        """Whether `source` reaches a port of `target` by TCP. None: outside the cluster."""
        return self._allows("egress", source, target, port) and self._allows(
            "ingress", target, source, port
        )

    def _allows(self, way: str, pod: Pod | None, peer: Pod | None, port: int) -> bool:
        if pod is None:
            return True
        found = [
            each
            for each in self.policies
            if each["metadata"]["namespace"] == pod.namespace
            and way.capitalize() in each["spec"]["policyTypes"]
            and selects(each["spec"]["podSelector"], pod.labels)
        ]
        peers = "to" if way == "egress" else "from"
        return not found or any(
            (peers not in rule or _one_of(rule[peers], peer, each["metadata"]["namespace"]))
            and ("ports" not in rule or {"port": port, "protocol": "TCP"} in rule["ports"])
            for each in found
            for rule in each["spec"].get(way, ())
        )


def _one_of(peers: Iterable[Raw], pod: Pod | None, namespace: str) -> bool:
    if pod is None:
        return False  # no policy of ours has an ipBlock
    names = {"kubernetes.io/metadata.name": pod.namespace}
    return any(
        selects(each.get("podSelector", {}), pod.labels)
        and (
            selects(each["namespaceSelector"], names)
            if "namespaceSelector" in each
            else pod.namespace == namespace
        )
        for each in peers
    )
