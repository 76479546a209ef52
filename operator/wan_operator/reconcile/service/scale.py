"""How many workers a service wants: by seconds of work, which are predicted before a video starts.

Scaling up is at once: the number comes from the work, not from the workers there are, so that
workers that still load are not wanted twice. Scaling down waits until fewer have been enough for
a while, and a worker that goes ends its video first.
"""

from __future__ import annotations

import math

from wan_operator.api.v1alpha1.inference import Autoscaling
from wan_operator.reconcile.service.state import Service
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


def needed(queue: QueueReport, wanted: Autoscaling) -> int:
    """Workers with which the last request in the queue waits no longer than it should; one at least
    while there is any work."""
    if queue.queued + queue.running == 0:
        return 0
    seconds = queue.predicted_seconds + queue.remaining_seconds
    # A worker that renders is not idle, however little is left: it takes its own share of time.
    return max(1, math.ceil(seconds / wanted.target_wait_seconds))
