"""A refusal as a response, and its place in the API's description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from wan_runtime.serving.gateway.video_request import SCHEMAS
from wan_runtime.serving.problems import STATUS, Refusal


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


def answer(refusal: Refusal) -> JSONResponse:
    """The response that says so."""
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
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
