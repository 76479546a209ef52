"""kopf glue and nothing else: every event of a WanFineTune or of a child puts a key into the queue.

kopf keeps the watches alive (re-listing after 410, bookmarks, inactivity timeouts). None of its
handlers that write (create, update, timers, daemons), no index and no finalizer is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import kopf

from wan_operator.api.v1alpha1.common import GROUP, VERSION
from wan_operator.api.v1alpha1.finetune import KIND, PLURAL
from wan_operator.controller import Controller
from wan_operator.kube import CHILDREN, PAGE
from wan_operator.reconcile.finetune import needs_look
from wan_operator.resources.labels import FINETUNE
from wan_operator.settings import Settings


def registry(controller: Controller) -> kopf.OperatorRegistry:
    handlers = kopf.OperatorRegistry()

    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        in_cluster: kopf.ConnectionInfo | None = kopf.login_with_service_account(**kwargs)
        return in_cluster or kopf.login_with_kubeconfig(**kwargs)

    async def of_finetune(event: Any, **_: Any) -> None:
        item = event["object"]
        if is_news(controller, KIND, event) and event["type"] != "DELETED" and needs_look(item):
            controller.enqueue((item["metadata"]["namespace"], item["metadata"]["name"]))

    def of_child(kind: str) -> Callable[..., Any]:
        async def enqueue_owner(event: Any, **_: Any) -> None:
            metadata = event["object"]["metadata"]
            owner = metadata.get("labels", {}).get(FINETUNE)
            if is_news(controller, kind, event) and owner:
                controller.enqueue((metadata["namespace"], owner))

        return enqueue_owner

    kopf.on.login(registry=handlers)(login)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)(of_finetune)
    kopf.on.event("batch", "v1", "jobs", registry=handlers, id="of_job")(of_child("Job"))
    kopf.on.event("", "v1", "pods", registry=handlers, id="of_pod")(of_child("Pod"))
    return handlers


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
    settings.watching.label_selectors["jobs"] = CHILDREN
    settings.watching.label_selectors["pods"] = CHILDREN
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
