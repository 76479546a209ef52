"""What does not work follows what is wanted of it now, and what was refused is tried again.

An edit of the resource, or of the operator's settings, makes a Deployment replace its pods. By
itself it keeps those that wait for a node, an image or a Secret until new ones are ready beside
them: where they hold the room or the quota of the new ones, for ever.
"""

from __future__ import annotations

from datetime import timedelta

from wan_operator.reconcile.decision import Resync
from wan_operator.reconcile.observed import Raw, container_state, is_deleting, label, retried
from wan_operator.reconcile.service.causes import refused, replica_sets
from wan_operator.reconcile.service.state import Service, count
from wan_operator.reconcile.waiting import RETRY_SECONDS
from wan_operator.resources.drift import first_difference
from wan_operator.resources.labels import SPEC_HASH, Manifest
from wan_operator.resources.service.names import COMPONENT, Part


def mended(service: Service, manifest: Manifest) -> Manifest:
    """A Deployment as it is to be applied now."""
    part = Part(label(manifest, COMPONENT))
    live, spec = service.deployment(part), manifest["spec"]
    rolling = spec["strategy"].get("rollingUpdate")
    if live is None or rolling is None:
        return manifest
    rolling = rolling | {"maxUnavailable": _missing(service, part, manifest, live)}
    strategy = spec["strategy"] | {"rollingUpdate": rolling}
    return manifest | {"spec": spec | {"strategy": strategy}}


def resyncs(service: Service) -> tuple[Resync, ...]:
    """The next tries of what is refused for a while. Its Deployment's controller copies the
    annotation to the newest ReplicaSet, and either controller then forgets its pause."""
    found = (_resync(service, part) for part in Part)
    return tuple(each for each in found if each is not None)


def _resync(service: Service, part: Part) -> Resync | None:
    live, since = service.deployment(part), [each.since for each in refused(service, part)]
    if live is None or not since:
        return None
    metadata = live["metadata"]
    began = max(min(since), retried(live) or min(since))
    if service.now - began < timedelta(seconds=RETRY_SECONDS):
        return None
    return Resync(kind="Deployment", name=metadata["name"], uid=metadata["uid"], time=service.now)


def working(service: Service, part: Part) -> int:
    """Pods of a part, of any revision, that work or load what they need for the first time."""
    found = sum(works(service, pod) for pod in service.pods(part))
    return max(found, count([service.deployment(part)], "readyReplicas"))


def is_down(service: Service) -> bool:
    """Whether workers are wanted and none works."""
    return service.status.desired_replicas > 0 and not working(service, Part.WORKER)


def works(service: Service, pod: Raw) -> bool:
    """Not one that waits, or that has ended and is not ready since."""
    container: str = pod["spec"]["containers"][0]["name"]
    if is_deleting(pod) or container_state(pod, container)[0] != "running" or service.waits(pod):
        return False
    statuses = pod["status"]["containerStatuses"]
    [status] = [each for each in statuses if each["name"] == container]
    return bool(status.get("ready")) or not status.get("restartCount")


def _missing(service: Service, part: Part, manifest: Manifest, live: Raw) -> int:
    """How many of the pods that a change replaces nobody would miss: those that do not work when it
    begins. As many may go before others are ready."""
    wanted, there = manifest["spec"], live["spec"]
    before = there["strategy"].get("rollingUpdate", {}).get("maxUnavailable", 0)
    if _is_replaced(manifest, live):
        return max(0, int(wanted["replicas"]) - working(service, part))
    seen = live.get("status", {}).get("observedGeneration", 0) >= live["metadata"]["generation"]
    others = replica_sets(service, part)[:-1]
    is_going_on = not seen or any(each["spec"].get("replicas") for each in others)
    return before if is_going_on and isinstance(before, int) else 0


def _is_replaced(manifest: Manifest, live: Raw) -> bool:
    """Whether a Deployment is to make other pods."""
    wanted, there = manifest["spec"], live["spec"]
    if first_difference({"template": wanted["template"]}, {"template": there["template"]}):
        return True
    # A field that is wanted no more leaves a trace in the hash alone, and so does a number.
    hashes = [each["metadata"].get("annotations", {}).get(SPEC_HASH) for each in (manifest, live)]
    return hashes[0] != hashes[1] and bool(wanted["replicas"] == there.get("replicas"))
