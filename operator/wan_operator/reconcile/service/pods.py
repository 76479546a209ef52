"""What keeps a pod of a service from its work."""

from __future__ import annotations

from dataclasses import dataclass

from wan_operator.reconcile.observed import Observed, Raw, container_state, is_deleting
from wan_operator.reconcile.waiting import Waiting, pod_waiting
from wan_operator.resources.service.names import Part
from wan_runtime.contract.job import ExitClass

RESTARTS = 3
"""A container that ended so often does not come right by itself."""


@dataclass(frozen=True, slots=True)
class PodFault:
    reason: str
    """From service_conditions."""
    message: str
    final: bool
    """It will not pass by itself."""
    is_of_spec: bool = True
    """Another spec is needed. Otherwise it passes once the cluster is mended, too."""
    is_unexplained: bool = False
    """Events may say more."""


def pod_fault(pod: Raw, observed: Observed | None = None) -> PodFault | None:
    """None: it runs, or goes. A container that runs and is not ready is starting: no fault."""
    container = pod["spec"]["containers"][0]["name"]
    name = pod["metadata"]["name"]
    if is_deleting(pod):
        return None
    ended = _last_end(pod, container)
    failed = "GatewayFailed" if container == Part.GATEWAY else "WorkerFailed"
    if ended is not None and ended["exitCode"] == ExitClass.INPUT:
        return PodFault(failed, f"pod {name}: {_said(ended, container)}", True)
    kind, state = container_state(pod, container)
    if kind == "running":
        return None
    if ended is not None:
        final = _restarts(pod, container) >= RESTARTS
        return PodFault(failed, f"pod {name}: {_said(ended, container)}", final)
    return fault_of(pod_waiting(pod, kind, state, observed))


def fault_of(waiting: Waiting) -> PodFault:
    reason = "PodStarting" if waiting.reason == "StepStarting" else waiting.reason
    return PodFault(
        reason=reason,
        message=waiting.message,
        final=waiting.final,
        is_of_spec=False,
        is_unexplained=waiting.is_unexplained,
    )


def _last_end(pod: Raw, container: str) -> Raw | None:
    """How its container last ended, if it did and is not right since."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == container and not status.get("ready"):
            for state in (status.get("state", {}), status.get("lastState", {})):
                if "terminated" in state:
                    found: Raw = state["terminated"]
                    return found
    return None


def _restarts(pod: Raw, container: str) -> int:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((each["restartCount"] for each in statuses if each["name"] == container), 0)


def _said(ended: Raw, container: str) -> str:
    """Its last words: of a log, the last line."""
    words = ended.get("message", "").strip().splitlines()
    code, reason = ended["exitCode"], ended.get("reason", "")
    if reason == "OOMKilled":
        part = "gateway" if container == Part.GATEWAY else "workers"
        return f"it reached its memory limit: raise spec.{part}.resources.memory"
    return f"exit code {code}: {words[-1][:600]}" if words else f"exit code {code} ({reason})"
