"""Reasons that pods give, whatever kind they belong to."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "ContainerFailed": "The container ended without a result; the message has its exit code.",
    "ResultMissing": "The container exited with 0 but left no readable result. The step is retried "
    "and reports it again.",
    "PodEvicted": "The pod was evicted, preempted or drained before it could save a checkpoint.",
    "PodLost": "The pod, or its node, was deleted and left no result.",
    "JobLost": "The Job of the running attempt was deleted.",
    "NodeLost": "The node of the pod does not answer. The pod counts as running until the node is "
    "back or removed.",
    "Unschedulable": "No node fits the pod; the message is the scheduler's.",
    "ImagePullBackOff": "The image cannot be pulled; the message names it.",
    "SecretNotFound": "A Secret that the pod needs, or a key in it, does not exist; the message "
    "names both.",
    "ContainerConfigError": "The container cannot be configured; the message is the kubelet's.",
    "VolumePending": "A volume of the pod is not available yet; the message names it.",
    "PodStarting": "The pod has a node, and its container is being created.",
    "PodNotCreated": "The Job has had no pod for a minute: a quota or an admission rule refuses "
    "it. The Job's events have the message.",
    "Queued": "Kueue holds the Job until there is room in its queue.",
}
