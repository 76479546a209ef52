"""The only module that talks to the API server.

Objects are plain dicts, as they are on the wire: typed clients drop fields that are newer than they
are. Every call raises TransientError or PermanentError and nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kubernetes.aio import client

from wan_operator.answers import NOT_FOUND, NOT_SERVED, content, refusal, why_unreachable
from wan_operator.api.v1alpha1.common import API_VERSION, GROUP
from wan_operator.errors import PermanentError, TransientError
from wan_operator.kinds import KINDS
from wan_operator.metrics import Metrics
from wan_operator.paths import path_of
from wan_operator.reconcile.decision import Delete, Event, Resync
from wan_operator.reconcile.observed import (
    Key,
    Observed,
    controller_uid,
    is_deleting,
    label,
)
from wan_operator.resources.drift import first_difference
from wan_operator.resources.labels import (
    JOB_UID,
    KUEUE,
    MANAGED_BY,
    MANAGER,
    RETRIED,
    WAITS_FOR,
    Manifest,
)

logger = logging.getLogger(__name__)

Raw = dict[str, Any]
Json = Any

CHILDREN = f"{MANAGED_BY}={MANAGER}"
PAGE = 500
"""Objects a LIST page: bounds the memory of parsing it to a few MiB."""
TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
KUEUE_VERSIONS = ("v1beta2", "v1beta1")
"""Versions of Kueue's API, the newest first: some releases serve one of them alone."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class Kube:
    """`spend` is awaited before each write: the controller's token bucket."""

    def __init__(
        self,
        api: client.ApiClient,
        metrics: Metrics,
        spend: Callable[[], Awaitable[None]],
        identity: str,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._spend = spend
        self._identity = identity

    async def close(self) -> None:
        await self._api.close()

    # Reading

    async def get(self, key: Key) -> Raw | None:
        return await self._get(path_of(*key))

    async def observe(self, key: Key) -> Observed:
        """The children of one custom resource, read live."""
        kind = KINDS[key.kind]
        selector = f"{CHILDREN},{kind.label}={key.name}"
        found: dict[str, list[Raw]] = {}
        for child in kind.children:
            found[child] = [item async for item in self._list(child, key.namespace, selector)]
        return Observed(children=found)

    async def list_all(self, kind: str, namespace: str | None) -> AsyncIterator[Raw]:
        """Every custom resource, or every child, of a kind, page by page."""
        pages = self._list(kind, namespace, "" if kind in KINDS else CHILDREN)
        async for item in pages:
            yield item

    async def list_nodes(self) -> AsyncIterator[Raw]:
        async for node in self._list("Node", None, ""):
            yield node

    async def list_pods_on(self, node: str) -> AsyncIterator[Raw]:
        """Pods of all namespaces on a node that have not ended. The API server answers from its
        cache, which is indexed by node; for the newest state, older servers scan the whole
        database."""
        fields = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
        query = {"fieldSelector": fields, "resourceVersion": "0"}
        async for pod in self._list("Pod", None, "", query):
            yield pod

    async def list_warnings(self, namespace: str) -> AsyncIterator[Raw]:
        """Events of type Warning, in `events.k8s.io/v1`, whichever API they were posted in."""
        async for event in self._list("Event", namespace, "", {"fieldSelector": "type=Warning"}):
            yield event

    async def list_workloads(self, namespace: str, job_uids: Sequence[str]) -> list[Raw]:
        """Kueue's Workloads of Jobs, from the API server's cache; none without Kueue."""
        selector = f"{JOB_UID} in ({','.join(job_uids)})"
        query = {"labelSelector": selector, "resourceVersion": "0"}
        for version in KUEUE_VERSIONS:
            path = f"/apis/{KUEUE}/{version}/namespaces/{namespace}/workloads"
            try:
                page = await self._call("GET", path, query=query)
            except PermanentError as error:
                if error.reason != NOT_SERVED:
                    raise
            else:
                found: list[Raw] = page["items"]
                return found
        return []

    async def _list(
        self, kind: str, namespace: str | None, selector: str, more: Raw | None = None
    ) -> AsyncIterator[Raw]:
        path = path_of(kind, namespace)
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        query |= more or {}
        while True:
            try:
                page = await self._call("GET", path, query=query)
            except PermanentError as error:
                if error.reason == NOT_SERVED and kind not in KINDS:
                    return  # Without the Gateway API there are no HTTPRoutes.
                raise
            for item in page["items"]:
                yield item
            following = page["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following

    # Writing

    async def ensure(self, manifest: Manifest) -> None:
        """Creates a Job, which is never changed: an attempt is what it was started as. Applies
        anything else, unless the live object holds it already."""
        if manifest["kind"] == "Job":
            await self._create_job(manifest)
            return
        live = await self._find_ours(manifest)
        difference = first_difference(manifest, live) if live else "all of it"
        if difference:
            child = {"child": manifest["kind"], "resource": manifest["metadata"]["name"]}
            logger.info("applies", extra={**child, "difference": difference})
            await self._apply(manifest)

    async def _apply(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        path = path_of(manifest["kind"], metadata["namespace"], metadata["name"])
        query = {"fieldManager": MANAGER, "force": "true"}
        await self._call("PATCH", path, query=query, body=manifest, content_type=APPLY)

    async def _create_job(self, manifest: Manifest) -> None:
        path = path_of("Job", manifest["metadata"]["namespace"])
        try:
            await self._call("POST", path, query={"fieldManager": MANAGER}, body=manifest)
        except PermanentError as error:
            if error.reason != "AlreadyExists":
                raise
            if await self._find_ours(manifest) is None:
                raise TransientError("a Job of this name has just been removed") from error

    async def _find_ours(self, manifest: Manifest) -> Raw | None:
        """What exists already is ours after a repeated call; a stranger's must not be taken for
        it."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        what = f"{kind} named {metadata['name']}"
        try:
            found = await self._get(path_of(kind, metadata["namespace"], metadata["name"]))
        except PermanentError as error:
            if error.reason != NOT_SERVED:
                raise
            text = f"no {what} can be made: the Gateway API is not installed in this cluster"
            raise PermanentError(text, "GatewayAPINotInstalled") from error
        if found is None:
            return None
        if is_deleting(found):
            raise TransientError(f"the {what} is being removed")
        owners = metadata.get("ownerReferences")
        # What outlives its resource has no owner; its name has the resource's uid.
        ours = controller_uid(found) == owners[0]["uid"] if owners else is_managed(found)
        if not ours:
            text = f"a {what} exists and is not ours: choose another name"
            raise PermanentError(text, "NameConflict")
        return found

    async def delete(self, namespace: str, target: Delete) -> None:
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": target.propagation,
            "preconditions": {"uid": target.uid},
        }
        path = path_of(target.kind, namespace, target.name)
        try:
            await self._call("DELETE", path, body=body)
        except PermanentError as error:
            if error.reason not in (NOT_FOUND, NOT_SERVED):
                raise
        except TransientError as error:
            if error.reason != "Conflict":
                raise  # A conflict is the precondition: what had to go is gone.

    async def resync(self, namespace: str, resync: Resync) -> None:
        """Annotates an object, which makes its controller try again; nothing if it is gone."""
        body = {
            "metadata": {
                "uid": resync.uid,
                "annotations": {RETRIED: resync.time.strftime("%Y-%m-%dT%H:%M:%SZ")},
            }
        }
        path = path_of(resync.kind, namespace, resync.name)
        await self._patch(path, body)

    async def unsuspend(self, job: Raw) -> None:
        """Lets a suspended Job go; nothing if it is gone."""
        await self._patch_job(job, {WAITS_FOR: None}, {"spec": {"suspend": False}})

    async def explain(self, job: Raw, text: str) -> None:
        """Says on a suspended Job what it waits for; nothing if it is gone."""
        await self._patch_job(job, {WAITS_FOR: text}, {})

    async def _patch_job(self, job: Raw, annotations: Raw, changes: Raw) -> None:
        metadata = job["metadata"]
        body = {"metadata": {"uid": metadata["uid"], "annotations": annotations}, **changes}
        await self._patch(path_of("Job", metadata["namespace"], metadata["name"]), body)

    async def _patch(self, path: str, body: Raw) -> None:
        """Patches an object with the uid that `body` has; nothing if it is gone."""
        try:
            await self._call(
                "PATCH", path, query={"fieldManager": MANAGER}, body=body, content_type=MERGE
            )
        except PermanentError as error:
            if error.reason != NOT_FOUND:
                raise
        except TransientError as error:
            if error.reason != "Conflict":
                raise  # A conflict is the precondition: it was made anew.

    async def patch_status(self, cr: Raw, status: Raw) -> Raw | None:
        """The object after the write; None if there was nothing to write, or nothing to write to
        any more. Refused with TransientError if `cr` is no longer the newest version: what was
        decided from an old spec must not be recorded."""
        changes = merge_patch(cr.get("status", {}), status)
        if not changes:
            return None
        metadata = cr["metadata"]
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "status": changes,
        }
        path = path_of(cr["kind"], metadata["namespace"], metadata["name"]) + "/status"
        query = {"fieldManager": MANAGER}
        try:
            patched: Raw = await self._call(
                "PATCH", path, query=query, body=body, content_type=MERGE
            )
        except PermanentError as error:
            if error.reason == NOT_FOUND:
                return None  # Deleted meanwhile; the garbage collector takes its children.
            raise
        return patched

    async def post_event(self, cr: Raw, event: Event) -> None:
        metadata, now = cr["metadata"], datetime.now(UTC)
        namespace = metadata["namespace"]
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{time.time_ns():x}",
                "namespace": namespace,
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"{GROUP}/{MANAGER}",
            "reportingInstance": self._identity[:128],
            "type": event.type,
            "reason": event.reason,
            "action": event.action,
            "note": event.message[:1024],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": cr["kind"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata["uid"],
            },
        }
        await self._call("POST", path_of("Event", namespace), body=body)

    # The Lease; see lease.py

    async def get_lease(self, namespace: str, name: str) -> Raw | None:
        return await self._get(path_of("Lease", namespace, name))

    async def put_lease(self, lease: Raw) -> Raw:
        """Creates it, or replaces the version that was read. TransientError if somebody was
        faster."""
        metadata = lease["metadata"]
        replaces = "resourceVersion" in metadata
        path = path_of("Lease", metadata["namespace"], metadata["name"] if replaces else "")
        written: Raw = await self._call(
            "PUT" if replaces else "POST", path, body=lease, limited=False
        )
        return written

    # HTTP

    async def _get(self, path: str) -> Raw | None:
        try:
            found: Raw = await self._call("GET", path)
        except PermanentError as error:
            if error.reason == NOT_FOUND:
                return None
            raise
        return found

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json = None,
        content_type: str = "application/json",
        limited: bool = True,
    ) -> Json:
        """`limited=False` for the Lease alone: waiting behind other writes could cost it."""
        if method != "GET" and limited:
            await self._spend()
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        what, start = f"{method} {path}", time.monotonic()
        try:
            answer = await self._api.call_api(*request, _request_timeout=TIMEOUT)
            text = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._metrics.called(method, "error", time.monotonic() - start)
            raise TransientError(f"{what}: {why_unreachable(error)}") from error
        self._metrics.called(method, str(answer.status), time.monotonic() - start)
        if answer.status < 400:
            return content(text, what)
        raise refusal(answer.status, text, answer.getheader("Retry-After"), what)


def is_managed(item: Raw) -> bool:
    """Whether the operator made an object that has no owner."""
    return label(item, MANAGED_BY) == MANAGER and not controller_uid(item)


def merge_patch(old: Raw, new: Raw) -> Raw:
    """RFC 7386: what turns `old` into `new`; empty if they are equal. Lists are replaced whole."""
    patch: Raw = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            inner = merge_patch(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch
