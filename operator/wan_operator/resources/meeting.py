"""How the pods of a step that several nodes do together find each other."""

from __future__ import annotations

from wan_operator.resources.labels import Manifest, Owner, job_name, labels, metadata, selector

MEETING_PORT = 29500
"""Where rank 0 awaits the others. Once they have met, they connect at ports of their own."""


def meeting_name(owner: Owner, step: str) -> str:
    return f"{owner.name}-{step}"


def meeting_service(owner: Owner, step: str) -> Manifest:
    """Headless Service that gives the pods of all attempts of a step their names in DNS."""
    spec = {
        "clusterIP": "None",
        "selector": selector(owner, step),
        # The pods are ready for others before they are ready for anything else.
        "publishNotReadyAddresses": True,
        "ports": [
            {
                "name": "meeting",
                "port": MEETING_PORT,
                "targetPort": MEETING_PORT,
                "protocol": "TCP",
            }
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, meeting_name(owner, step), labels(owner, step), spec),
        "spec": spec,
    }


def meeting_env(owner: Owner, step: str, attempt: int) -> list[Manifest]:
    """Environment variables that name the pod of rank 0, which the others meet at."""
    first = f"{job_name(owner, step, attempt)}-0"
    return [
        {"name": "MASTER_ADDR", "value": f"{first}.{meeting_name(owner, step)}"},
        {"name": "MASTER_PORT", "value": str(MEETING_PORT)},
    ]
