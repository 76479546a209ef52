"""Whether nodes have room for more pods of ours, by what the scheduler asks first: nodes that take
pods, their labels and taints, and what is left of each resource.

Not considered: volumes, quotas, affinity to other pods, spread, the overhead of a RuntimeClass, and
pods that would give way to a higher priority.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from wan_operator.resources.pods import GPU
from wan_operator.resources.quantity import amount

Raw = dict[str, Any]
Amounts = Counter[str]
"""Resource -> thousandths of its unit, as schedulers count CPUs. Pods are a resource, too."""

_WHOLE_NUMBER = re.compile("-?[0-9]+")
CLOSING = frozenset({"NoSchedule", "NoExecute"})
"""Effects of taints that keep a pod away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    name: str
    labels: Mapping[str, str]
    taints: Sequence[Raw]
    allocatable: Amounts
    requests: Mapping[str, Amounts]
    """Requests of each pod on the node, by the pod's uid."""

    @classmethod
    def read(cls, node: Raw, pods: Iterable[Raw]) -> Node:
        return cls(
            name=node["metadata"]["name"],
            labels=node["metadata"].get("labels", {}),
            taints=node["spec"].get("taints", ()),
            allocatable=_counted(node["status"]["allocatable"]),
            requests={pod["metadata"]["uid"]: requests(pod["spec"]) for pod in pods},
        )

    @property
    def free(self) -> Amounts:
        return self.allocatable - sum(self.requests.values(), Amounts())

    def suits(self, pod: Raw) -> bool:
        """Whether the pod may come here, if there is room."""
        tolerations = pod.get("tolerations", ())
        closed = [each for each in self.taints if each["effect"] in CLOSING]
        return (
            pod.get("nodeSelector", {}).items() <= self.labels.items()
            and self._is_required(pod.get("affinity", {}).get("nodeAffinity", {}))
            and all(any(_tolerates(each, taint) for each in tolerations) for taint in closed)
        )

    def _is_required(self, affinity: Raw) -> bool:
        """Whether it meets a term of what the affinity requires, if it requires anything."""
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        if required is None:
            return True
        fields = {"metadata.name": self.name}
        return any(
            _meets(term.get("matchExpressions", ()), self.labels)
            and _meets(term.get("matchFields", ()), fields)
            for term in required["nodeSelectorTerms"]
            if term.get("matchExpressions") or term.get("matchFields")
        )

    def holding(self, wanted: Amounts) -> Node:
        """With one pod more."""
        return replace(self, requests={**self.requests, f"to come {len(self.requests)}": wanted})


@dataclass(frozen=True, slots=True)
class Room:
    """On nodes with GPUs."""

    nodes: tuple[Node, ...] = ()
    """Those that take pods."""
    closed: int = 0
    """Others: cordoned, or not ready."""
    is_known: bool = True
    """False: the operator may not read nodes."""

    def without(self, pods: Collection[str]) -> Room:
        """As it will be once these have gone; by uid."""
        kept = [
            replace(node, requests={k: v for k, v in node.requests.items() if k not in pods})
            for node in self.nodes
        ]
        return replace(self, nodes=tuple(kept))

    def after(self, pod: Raw, count: int) -> tuple[Room, int]:
        """What is left once as many pods of this spec are placed as there is room for, `count` at
        most; and how many these are."""
        wanted, nodes, placed = requests(pod), list(self.nodes), 0
        for at, node in enumerate(nodes):
            while placed < count and node.suits(pod) and wanted <= node.free:
                nodes[at] = node = node.holding(wanted)
                placed += 1
        return replace(self, nodes=tuple(nodes)), placed

    def closest(self, pod: Raw) -> str:
        """Describe the node that lacks least for one more such pod, and what it lacks; or why no
        node can take one."""
        wanted = requests(pod)
        suited = [node for node in self.nodes if node.suits(pod)]
        if not self.nodes and not self.closed:
            return f"no node has {GPU}"
        if not suited:
            return (
                f"of the nodes with {GPU}, {self.closed} are cordoned or not ready, and "
                f"{len(self.nodes)} lack a label of its node selector or affinity, or have a taint "
                "that it does not tolerate"
            )
        node = max(suited, key=lambda each: (-len(wanted - each.free), each.free[GPU]))
        lacking = [
            f"{_amount(name, node.free[name])} of {_amount(name, node.allocatable[name])} {name}"
            for name in _in_order(wanted - node.free)
        ]
        return f"node {node.name} comes closest, with {', '.join(lacking)} free"


def has_gpus(node: Raw) -> bool:
    return GPU in node["status"].get("allocatable", {})


def takes_pods(node: Raw) -> bool:
    conditions = node["status"].get("conditions", [])
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return is_ready and not node["spec"].get("unschedulable")


def requests(pod: Raw) -> Amounts:
    """Requests of a pod's spec, as the scheduler counts: for each resource the sum over containers
    and sidecars, or more if an init container or the pod itself requests more; and the pod's
    overhead.

    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    sidecars, start = Amounts(), Amounts()
    for container in pod.get("initContainers", ()):
        step = sidecars + _of(container)
        if container.get("restartPolicy") == "Always":
            sidecars = step
        start |= step
    containers = sum(map(_of, pod["containers"]), sidecars)
    whole = (containers | start) | _of(pod)
    return whole + _counted(pod.get("overhead", {})) + Amounts(pods=1000)


def described(wanted: Amounts) -> str:
    """`1 nvidia.com/gpu, 12 cpu, 64Gi memory`"""
    return ", ".join(f"{_amount(name, wanted[name])} {name}" for name in _in_order(wanted))


def _of(part: Raw) -> Amounts:
    return _counted(part.get("resources", {}).get("requests", {}))


def _counted(quantities: Mapping[str, str]) -> Amounts:
    return Amounts({name: ceil(1000 * amount(str(each))) for name, each in quantities.items()})


def _tolerates(toleration: Raw, taint: Raw) -> bool:
    key, effect = toleration.get("key"), toleration.get("effect")
    if effect and effect != taint["effect"]:
        return False
    if toleration.get("operator") == "Exists":
        return not key or key == taint["key"]
    return bool(key == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


def _meets(requirements: Iterable[Raw], labels: Mapping[str, str]) -> bool:
    return all(_holds(each, labels.get(each["key"])) for each in requirements)


def _holds(requirement: Raw, found: str | None) -> bool:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#operators"""
    values = requirement.get("values", ())
    match requirement["operator"]:
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
    if found is None or not _WHOLE_NUMBER.fullmatch(found):
        return False
    wanted, number = int(values[0]), int(found)
    return number > wanted if requirement["operator"] == "Gt" else number < wanted


def _in_order(amounts: Amounts) -> list[str]:
    """GPUs first; a pod's own place only where nothing else is short."""
    names = sorted(amounts, key=lambda name: (name != GPU, name))
    return [name for name in names if name != "pods"] or names


def _amount(name: str, thousandths: int) -> str:
    if name in ("memory", "ephemeral-storage"):
        return f"{thousandths / 1000 / 2**30:.1f}".removesuffix(".0") + "Gi"
    return f"{thousandths / 1000:g}"
