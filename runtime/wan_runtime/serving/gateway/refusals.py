"""A refusal as a response, and its place in the API's description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import StepError
from wan_runtime.serving.gateway.video_request import SCHEMAS
from wan_runtime.serving.problems import STATUS, Code, Refusal
from wan_runtime.serving.queue.errors import DatabaseRefused


class ProblemDetail(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None
    """The field, where the cause is one."""
    code: str
    """Code from a closed list; see `description` of each status."""


class Problem(BaseModel):
    """OpenAI's error object."""

    error: ProblemDetail


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "model": Problem,
        "description": ", ".join(code for code, each in STATUS.items() if each == status),
    }
    for status in sorted(set(STATUS.values()))
}
"""Error responses of every route, by status."""

SHOULD_RETRY = "x-should-retry"
"""Header with which OpenAI's SDKs are kept from trying again by themselves."""


def unavailable(error: Exception) -> Refusal:
    """The refusal of a request that met an error of the database or the store. It promises only
    what is so: that waiting helps, where nobody has to act."""
    away = error.reason is Reason.STORE_UNREACHABLE if isinstance(error, StepError) else True
    return silent() if away and not isinstance(error, DatabaseRefused) else refuses()


def silent() -> Refusal:
    """The refusal of a request where waiting helps."""
    text = "the service's database or store does not answer; what was queued is kept: try again"
    return Refusal(Code.UNAVAILABLE, text, retry_after=5)


def refuses() -> Refusal:
    """The refusal of a request where somebody has to act."""
    text = (
        "the service's database or store refuses this; waiting does not help: those who run the "
        "service find the cause in its status"
    )
    return Refusal(Code.UNAVAILABLE, text)


def answer(refusal: Refusal) -> JSONResponse:
    """The response that says so."""
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    elif refusal.status == 503:
        headers[SHOULD_RETRY] = "false"
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(refusal.body(), refusal.status, headers)


def describe(app: FastAPI) -> None:
    """Take FastAPI's own 422 out of the description, since a wrong field is a 400 here, and put in
    the bodies that are read by hand."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        found = make()
        for path in found["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(name, None)
        found["components"]["schemas"].update(SCHEMAS)
        return found

    app.openapi = openapi  # type: ignore[method-assign]
