"""Why pods of children do not run yet: the deepest cause that the cluster knows, in its words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wan_operator.reconcile.observed import Observed, Raw, WarningEvent, condition
from wan_operator.resources.pods import GPU

RETRY_SECONDS = 3.0
"""Interval at which what the API server refuses is tried again: nothing says that the quota or the
rule was mended. The controllers of Jobs and ReplicaSets put their own next try off for up to a
minute and up to 16."""
REPEATED = "(combined from similar events): "
"""Begins the message of an Event that the API server's clients have merged."""
_FORBIDDEN = re.compile(r'pods? "[^"]*" is forbidden: ')
"""Names a pod that never was, another at each try."""
_FINAL = ("is forbidden", "is invalid", "denied the request")
"""In answers that stay the same until somebody acts; others, such as a webhook that does not
answer, may pass."""
_QUOTA = ("exceeded quota", "status unknown for quota")
_REFUSALS = (
    *((text, "QuotaExceeded") for text in _QUOTA),
    ("no PriorityClass with name", "PriorityClassNotFound"),
    ("error looking up service account", "ServiceAccountNotFound"),
)
_INSUFFICIENT = re.compile(r"Insufficient ([a-z0-9./-]*[a-z0-9])")
_PREEMPTION = re.compile(r"[,.]? ?(no new claims to deallocate,)? ?preemption: .*", re.DOTALL)
"""Ends the scheduler's message, and says of nobody what to change."""
_MOUNT = re.compile(r'for volume "([^"]+)" ?: (.*)', re.DOTALL)
_UNEXPLAINED = frozenset({"StepStarting", "PodStarting", "PodNotCreated", "VolumePending"})


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run yet."""

    reason: str
    message: str
    final: bool = False
    """Nothing will change until somebody acts."""

    @property
    def is_unexplained(self) -> bool:
        """Whether Events may say more."""
        return self.reason in _UNEXPLAINED


def refused_pod(owner: str, warned: WarningEvent | None) -> Waiting | None:
    """The API server's answer to a Job or ReplicaSet that was to make a pod; None unless `warned`
    has it. `owner`: its kind and name."""
    if warned is None or warned.reason != "FailedCreate":
        return None
    return refused(owner, warned.message.removeprefix(REPEATED).removeprefix("Error creating: "))


def refused(owner: str, said: str) -> Waiting:
    """The API server's answer `said` to an owner, by kind and name, that was to make a pod."""
    reason = next((reason for text, reason in _REFUSALS if text in said), "PodRefused")
    final = reason != "QuotaExceeded" and any(text in said for text in _FINAL)
    text = f"{owner} cannot create its pod: {_FORBIDDEN.sub('', said, count=1)}"
    return Waiting(reason, text, final)


def pod_waiting(pod: Raw, kind: str, state: Raw, observed: Observed | None = None) -> Waiting:
    """Why the container of a pod does not run; `kind` and `state` are of `container_state`."""
    name = pod["metadata"]["name"]
    scheduled = condition(pod, "PodScheduled")
    if scheduled is not None and scheduled["status"] == "False":
        text = scheduled.get("message", "not scheduled yet")
        if "persistentvolumeclaim" not in text.lower():
            return Waiting(
                "Unschedulable", "; ".join((_PREEMPTION.sub("", text), *_needs(pod, text)))
            )
        return Waiting("VolumePending", "; ".join((text, *_of_claims(pod, observed))))
    warned = observed.warning_about(pod) if observed else None
    setup = _of_setup(pod, warned) if warned else None
    if kind == "waiting":
        waiting = _container_waiting(state, name, pod)
        return setup if setup and waiting.is_unexplained else waiting
    return setup or Waiting("StepStarting", f"pod {name} waits for the scheduler or the kubelet")


def _needs(pod: Raw, said: str) -> Iterable[str]:
    """What a pod asks of a node, as far as the scheduler found no node with it."""
    name, spec = pod["metadata"]["name"], pod.get("spec", {})
    if "node affinity/selector" in said and spec.get("nodeSelector"):
        labels = ", ".join(f"{key}={value}" for key, value in spec["nodeSelector"].items())
        yield f"podTemplate.nodeSelector needs a node with the labels {labels}"
    wanted = [each.get("resources", {}).get("requests", {}) for each in spec.get("containers", [])]
    gpus = _gpus(pod)
    lacking = [each for each in _INSUFFICIENT.findall(said) if gpus < 2 or each != GPU]
    requested = [f"{key} {each[key]}" for each in wanted for key in lacking if key in each]
    if requested:
        yield f"pod {name} requests {', '.join(requested)}"
    if gpus > 1:
        yield f"pod {name} needs {gpus} GPUs on one node"


def _gpus(pod: Raw) -> int:
    containers = pod.get("spec", {}).get("containers", [])
    limits = (each.get("resources", {}).get("limits", {}) for each in containers)
    return sum(int(each.get(GPU, 0)) for each in limits)


def _of_claims(pod: Raw, observed: Observed | None) -> Iterable[str]:
    """What was said about the PersistentVolumeClaims of a pod."""
    volumes = pod.get("spec", {}).get("volumes", [])
    names = {each.get("persistentVolumeClaim", {}).get("claimName") for each in volumes}
    for warned in ((observed and observed.warnings) or {}).values():
        if warned.kind == "PersistentVolumeClaim" and warned.name in names:
            yield f"PersistentVolumeClaim {warned.name}: {warned.message}"


def _of_setup(pod: Raw, warned: WarningEvent) -> Waiting | None:
    """What keeps the kubelet from setting up a pod; None if nothing does any more."""
    name = pod["metadata"]["name"]
    ready = condition(pod, "PodReadyToStartContainers") or {}
    if ready.get("status") == "True":
        return None
    said = warned.message.removeprefix(REPEATED)
    if warned.reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume"):
        return _of_mount(pod, said)
    if warned.reason == "FailedCreatePodSandBox":
        return Waiting("PodSandboxFailed", f"pod {name}: {said}")
    return None


def _of_mount(pod: Raw, said: str) -> Waiting:
    """The kubelet says `MountVolume.SetUp failed for volume "ca" : configmap "x" not found`, or
    `references non-existent config key: ca.crt`, and not of which ConfigMap."""
    name = pod["metadata"]["name"]
    found = _MOUNT.search(said)
    if found is None:
        return Waiting("VolumePending", f"pod {name}: {said}")
    volume, cause = found.groups()
    cause = cause.strip()
    listed = pod.get("spec", {}).get("volumes", [])
    source = next((_source(each) for each in listed if each["name"] == volume), "")
    of = f" of {source}" if source and source.split()[-1] not in cause else ""
    text = f'pod {name} cannot mount volume "{volume}"{of}: {cause}'
    missing = "not found" in cause or "non-existent" in cause
    if missing and "secret" in cause.lower():
        return Waiting("SecretNotFound", text)
    if missing and "config" in cause.lower():
        return Waiting("ConfigMapNotFound", text)
    return Waiting("VolumePending", text)


def _source(volume: Raw) -> str:
    """Kind and name of the object that a volume shows; empty for another volume."""
    for kind, field, name in (
        ("Secret", "secret", "secretName"),
        ("ConfigMap", "configMap", "name"),
        ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
    ):
        if name in volume.get(field, {}):
            return f"{kind} {volume[field][name]}"
    return ""


def _container_waiting(state: Raw, name: str, pod: Raw) -> Waiting:
    why, text = state.get("reason", ""), state.get("message", "")
    if why in ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"):
        image = pod["spec"]["containers"][0]["image"]
        # The kubelet alternates between the error and the wait for the next try: show the error in
        # both.
        detail = text.rsplit("ErrImagePull: ", 1)[-1]
        return Waiting("ImagePullBackOff", f"image {image} cannot be pulled: {detail}")
    if why in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        # Kubelet: `secret "x" not found`, or `couldn't find key accessKey in Secret ns/x`.
        missing = "not found" in text or "find key" in text
        for kind, reason in (("secret", "SecretNotFound"), ("configmap", "ConfigMapNotFound")):
            if missing and kind in text.lower():
                return Waiting(reason, text)
        return Waiting("ContainerConfigError", text or why)
    node = pod.get("spec", {}).get("nodeName", "a node")
    return Waiting("PodStarting", f"pod {name} is starting on {node}")
