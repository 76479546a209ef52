"""What does not work follows what is wanted of it now, and what was refused is tried again.

An edit of the resource, or of the operator's settings, makes a Deployment replace its pods. By
itself it keeps those that wait for a node, an image or a Secret until new ones are ready beside
them: where they hold the room or the quota of the new ones, for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from wan_operator.reconcile.observed import Raw, container_state, is_deleting, label, parse_time
from wan_operator.reconcile.service.causes import refused, replica_sets
from wan_operator.reconcile.service.state import Service, count
from wan_operator.resources.drift import first_difference
from wan_operator.resources.labels import RETRIED, SPEC_HASH, Manifest
from wan_operator.resources.service.names import COMPONENT, Part

RETRY_SECONDS = 20.0
"""Interval at which a refused ReplicaSet tries again. The Deployment's controller copies the
annotation to it, and its own controller then forgets its pause, of up to 16 minutes."""


def mended(service: Service, manifest: Manifest) -> Manifest:
    """A Deployment as it is to be applied now."""
    part = Part(label(manifest, COMPONENT))
    live = service.deployment(part)
    if live is None:
        return manifest
    metadata, spec = manifest["metadata"], manifest["spec"]
    annotations = metadata["annotations"] | _retried(service, part, live)
    rolling = spec["strategy"].get("rollingUpdate")
    if rolling is not None:
        rolling = rolling | {"maxUnavailable": _missing(service, part, manifest, live)}
        spec = spec | {"strategy": spec["strategy"] | {"rollingUpdate": rolling}}
    return manifest | {"metadata": metadata | {"annotations": annotations}, "spec": spec}


def working(service: Service, part: Part) -> int:
    """Pods of a part, of any revision, that work or load what they need for the first time."""
    found = sum(map(works, service.pods(part)))
    return max(found, count([service.deployment(part)], "readyReplicas"))


def is_down(service: Service) -> bool:
    """Whether workers are wanted and none works."""
    return service.status.desired_replicas > 0 and not working(service, Part.WORKER)


def works(pod: Raw) -> bool:
    """Not one that waits, or that has ended and is not ready since."""
    container: str = pod["spec"]["containers"][0]["name"]
    if is_deleting(pod) or container_state(pod, container)[0] != "running":
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


def _retried(service: Service, part: Part, live: Raw) -> dict[str, str]:
    """The annotation that makes the controllers try again what has been refused for a while."""
    before = live["metadata"].get("annotations", {}).get(RETRIED)
    since = [each.since for each in refused(service, part)]
    if not since:
        return {}
    pause = timedelta(seconds=min(RETRY_SECONDS, 2 * service.settings.retry_base_seconds))
    if service.now - max(min(since), _time(before) or min(since)) < pause:
        return {} if before is None else {RETRIED: before}
    return {RETRIED: service.now.isoformat()}


def _time(text: str | None) -> datetime | None:
    try:
        return parse_time(text) if text else None
    except ValueError:  # edited by somebody
        return None
