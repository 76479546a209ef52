"""What the cluster looked like when a test failed: for whoever has the log alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Set
from functools import partial
from pathlib import Path
from typing import Any

from stack import SYSTEM_NAMESPACE, Manifest, Stack

SHARED = frozenset({SYSTEM_NAMESPACE, "kube-system", "minio", "postgres"})
EVENTS = 15
"""Warnings that are shown, the last ones."""
LINES = 5
"""Of each log."""


def surroundings(stack: Stack, namespaces: Set[str]) -> str:
    """Free memory and disk; pods that are not ready or were restarted, with the ends of their logs,
    in `namespaces` and in those that all tests share; and the last warnings there. What cannot be
    had is said in its place."""
    looked_at = SHARED | namespaces
    parts: tuple[Callable[[], str], ...] = (
        machine,
        lambda: "\n".join(pods(stack, looked_at)),
        lambda: "\n".join(warnings(stack, looked_at)),
    )
    return "\n".join(map(_or_why, parts))


def machine() -> str:
    """Of the node, which is this machine."""
    meminfo = Path("/proc/meminfo").read_text().splitlines()
    available = next(line for line in meminfo if line.startswith("MemAvailable"))
    load = Path("/proc/loadavg").read_text().strip()
    free = shutil.disk_usage("/").free / 2**30
    return f"{' '.join(available.split())}, disk {free:.1f} GiB free, load {load}"


def pods(stack: Stack, namespaces: Set[str]) -> Iterator[str]:
    for pod in stack.api("/api/v1/pods")["items"]:
        if pod["metadata"]["namespace"] not in namespaces:
            continue
        states = pod["status"].get("containerStatuses", [])
        is_well = all(state["ready"] and not state["restartCount"] for state in states)
        if is_well or pod["status"].get("phase") == "Succeeded":
            continue
        namespace, name = (pod["metadata"][key] for key in ("namespace", "name"))
        yield f"pod {namespace}/{name}: {pod['status'].get('phase')}"
        for state in states:
            yield f"  restarts {state['restartCount']}, {_ended(state)}"
            for previous in ("", "true") if state["restartCount"] else ("",):
                yield _or_why(partial(_log, stack, namespace, name, previous))


def warnings(stack: Stack, namespaces: Set[str]) -> Iterator[str]:
    """Oldest first."""
    listed = stack.api("/api/v1/events", fieldSelector="type=Warning")["items"]
    # A node's are in "default".
    found = [each for each in listed if each["metadata"]["namespace"] in {*namespaces, "default"}]
    found.sort(key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime")))
    for event in found[-EVENTS:]:
        what = event["involvedObject"]
        at = event.get("lastTimestamp") or event.get("eventTime")
        text = " ".join(event.get("message", "").split())[:200]
        yield f"{at} {what.get('namespace')}/{what.get('name')}: {event.get('reason')}: {text}"


def _ended(state: Manifest) -> str:
    """Why its last container ended."""
    last: dict[str, Any] = state.get("lastState", {}).get("terminated") or {}
    return f"the last one ended with {last.get('exitCode')} {last.get('reason')}"


def _log(stack: Stack, namespace: str, name: str, previous: str) -> str:
    earlier = ("--previous",) if previous else ()
    text = stack.kubectl("-n", namespace, "logs", name, f"--tail={LINES}", *earlier)
    return "\n".join(f"    {line[:300]}" for line in text.splitlines())


def _or_why(part: Callable[[], str]) -> str:
    try:
        return part()
    except Exception as error:  # the failure that it explains must not be hidden by another
        return f"    {type(error).__name__}: {str(error)[:300]}"
