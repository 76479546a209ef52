"""kopf glue and nothing else: every event of a custom resource or of a child puts a key into the
queue.

kopf keeps the watches alive (re-listing after 410, bookmarks, inactivity timeouts). None of its
handlers that write (create, update, timers, daemons), no index and no finalizer is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import kopf

from wan_operator.controller import Controller
from wan_operator.kinds import KINDS, Kind, key_of, owner_of
from wan_operator.kube import CHILDREN, PAGE
from wan_operator.paths import api_of
from wan_operator.settings import Settings


def registry(controller: Controller) -> kopf.OperatorRegistry:
    handlers = kopf.OperatorRegistry()

    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        in_cluster: kopf.ConnectionInfo | None = kopf.login_with_service_account(**kwargs)
        return in_cluster or kopf.login_with_kubeconfig(**kwargs)

    def of_resource(kind: Kind) -> Callable[..., Any]:
        async def enqueue(event: Any, **_: Any) -> None:
            key, item = key_of(kind.name, event["object"]), event["object"]
            if not is_news(controller, kind.name, event):
                return
            if event["type"] != "DELETED" and kind.needs_reconcile(item):
                controller.enqueue(key)
            controller.enqueue_followers(key)
            if event["type"] == "DELETED":
                await controller.deleted(kind, item)

        return enqueue

    def of_child(child: str) -> Callable[..., Any]:
        async def enqueue_owner(event: Any, **_: Any) -> None:
            owner = owner_of(event["object"])
            if is_news(controller, child, event) and owner:
                controller.enqueue(owner)

        return enqueue_owner

    kopf.on.login(registry=handlers)(login)
    for kind in KINDS.values():
        on_event(handlers, kind.name)(of_resource(kind))
    for child in watched_children():
        on_event(handlers, child)(of_child(child))
    return handlers


def on_event(handlers: kopf.OperatorRegistry, kind: str) -> Callable[..., Any]:
    made: Callable[..., Any] = kopf.on.event(*api_of(kind), registry=handlers, id=f"of_{kind}")
    return made


def watched_children() -> set[str]:
    return {child for kind in KINDS.values() for child in kind.watched}


def is_news(controller: Controller, kind: str, event: Any) -> bool:
    """False for what the sweep has acted on: the LIST at the start of a watch repeats it."""
    metadata = event["object"]["metadata"]
    gone = event["type"] == "DELETED"
    return controller.watchdog.delivered(
        kind, metadata["uid"], metadata["resourceVersion"], gone=gone
    )


def settings_of_kopf() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # Events come from our own recorder, with documented reasons.
    settings.scanning.disabled = True  # No rights on CRDs and namespaces: Helm installs CRDs first.
    settings.peering.standalone = True  # The Lease decides who acts.
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = PAGE
    for child in watched_children():
        settings.watching.label_selectors[api_of(child)[2]] = CHILDREN
    settings.execution.max_workers = 1  # No handler needs a thread.
    settings.process.ultimate_exiting_timeout = 30
    return settings


async def watch(controller: Controller, settings: Settings, on_signals: Callable[[], None]) -> None:
    """Runs kopf until cancelled. `on_signals` takes the signals back, which kopf claims for
    itself."""
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry(controller),
        settings=settings_of_kopf(),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
    )
    on_signals()
    await kopf.run_tasks(tasks, ignored=before)
