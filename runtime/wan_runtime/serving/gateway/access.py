"""Who asks. Every route below /v1 goes through here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from wan_runtime.contract.service import KeyLimit
from wan_runtime.serving.gateway.state import Gateway
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.queue.queue import Queue

bearer = HTTPBearer(auto_error=False, description="An API key of the service.")


@dataclass(frozen=True, slots=True)
class Access:
    """A request with a valid key."""

    gateway: Gateway
    key: str
    """The key's name: limits go by it."""
    owner: str
    """The key's id: jobs belong to it. Of a key that has videos of an earlier release, the owner
    that this wrote."""

    @property
    def queue(self) -> Queue:
        return self.gateway.queue

    @property
    def limit(self) -> KeyLimit:
        return self.gateway.service.limits.of(self.key)

    def count(self) -> None:
        """One more video asked for. Raises Refusal(RATE_LIMITED)."""
        most = self.limit.requests_per_minute
        if most is None:
            return
        wait = self.gateway.rates.wait(self.owner, most, time.monotonic())
        if wait:
            text = f"this key may ask for {most} videos a minute"
            raise Refusal(Code.RATE_LIMITED, text, retry_after=wait)


async def access(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Access:
    """Raises Refusal(INVALID_API_KEY), or (INVALID_REQUEST) for an address that names nothing."""
    gateway: Gateway = request.app.state.gateway
    key = await run_in_threadpool(gateway.keys.caller, request.headers.get("authorization"))
    for name, text in (*request.path_params.items(), *request.query_params.items()):
        if "\0" in text:
            cause = f"{name} must be text without the character U+0000 (%00 in the address)"
            raise Refusal(Code.INVALID_REQUEST, cause, param=name)
    return Access(gateway, key.name, gateway.owners.get(key.id, key.id))
