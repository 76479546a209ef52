"""How many workers a service wants: by seconds of work, which are predicted before a video starts.

Scaling up is at once: the number comes from the work, not from the workers there are, so that
workers that still load are not wanted twice. Scaling down waits until fewer have been enough for
a while, and a worker that goes ends its video first.
"""

from __future__ import annotations

import math

from wan_operator.api.v1alpha1.inference import Autoscaling
from wan_operator.reconcile.observed import label
from wan_operator.reconcile.service.mend import mended
from wan_operator.reconcile.service.state import Service
from wan_operator.resources.labels import Manifest
from wan_operator.resources.service import worker
from wan_operator.resources.service.names import REVISION, Part
from wan_operator.resources.service.worker import Revision
from wan_runtime.contract.report import QueueReport


def scaled(service: Service) -> Service:
    """With status.desiredReplicas."""
    wanted = service.spec.autoscaling
    if wanted is None:
        return service.with_status(
            desired_replicas=service.spec.replicas, enough_since=None, last_scale_time=None
        )
    now, before = service.now, service.status.desired_replicas
    least, most = wanted.min_replicas, wanted.max_replicas
    bounded = min(max(before, least), most)
    if service.report is None:  # no word of the queue: nothing is concluded from that
        return _set(service, bounded)
    need = min(max(needed(service.report.queue, wanted), least), most)
    if need > bounded:
        return _set(service, need)
    if need == bounded:
        return _set(service, bounded)
    since = service.status.enough_since or now
    if (now - since).total_seconds() < wanted.scale_down_delay_seconds:
        return _set(service, bounded).with_status(enough_since=since)
    return _set(service, need)


def _set(service: Service, replicas: int) -> Service:
    changed = replicas != service.status.desired_replicas
    time = service.now if changed else service.status.last_scale_time
    return service.with_status(desired_replicas=replicas, last_scale_time=time, enough_since=None)


def may_resize(service: Service) -> bool:
    """Whether the number of workers follows the queue while the spec is not acted on: where it has
    autoscaling that can be read, and workers are what they were made as."""
    return service.spec.autoscaling is not None and _at_work(service) is not None


def resized(service: Service) -> Manifest | None:
    """The workers' Deployment with as many as are wanted and nothing else changed; None: it has as
    many, or cannot be made again."""
    live, revision = service.deployment(Part.WORKER), _at_work(service)
    wanted = service.status.desired_replicas
    if live is None or revision is None or live["spec"].get("replicas") == wanted:
        return None
    is_recreated = live["spec"]["strategy"]["type"] == worker.RECREATE["type"]
    made = worker.deployment(
        service.owner, revision, Part.WORKER, replicas=wanted,
        strategy=worker.RECREATE if is_recreated else worker.SURGE,
        deadline_seconds=live["spec"]["progressDeadlineSeconds"],
    )  # fmt: skip
    return mended(service, made)


def _at_work(service: Service) -> Revision | None:
    """What the workers' Deployment runs, as it is kept. None: it was edited, or is of a release
    whose words this one does not know."""
    live = service.deployment(Part.WORKER)
    found = live and service.revision(label(live["spec"]["template"], REVISION))
    return found if found and found.is_intact and found.is_readable else None


def needed(queue: QueueReport, wanted: Autoscaling) -> int:
    """Workers with which the last request in the queue waits no longer than it should; one at least
    while there is any work."""
    if queue.queued + queue.running == 0:
        return 0
    seconds = queue.predicted_seconds + queue.remaining_seconds
    # A worker that renders is not idle, however little is left: it takes its own share of time.
    return max(1, math.ceil(seconds / wanted.target_wait_seconds))
