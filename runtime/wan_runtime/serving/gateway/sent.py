"""The body of a request as JSON or as a form, by its Content-Type."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from wan_runtime.serving.gateway import form
from wan_runtime.serving.gateway.text import read_json
from wan_runtime.serving.gateway.video_request import JSON, MULTIPART, URLENCODED, fields_of
from wan_runtime.serving.problems import Code, Refusal


@asynccontextmanager
async def sent(
    request: Request, *, picture: bool = False
) -> AsyncIterator[tuple[Any, UploadFile | None]]:
    """The value of the JSON, or the fields of the form; and its file, where it may have a
    `picture`.

    Raises:
        Refusal: INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == MULTIPART:
        async with form.received(request) as fields:
            values, upload = fields_of(fields)
            if upload is not None and not picture:
                text = "input_reference: there is no such field"
                raise Refusal(Code.INVALID_REQUEST, text, param="input_reference")
            yield values, upload
    elif kind == URLENCODED:
        yield fields_of(form.urlencoded(await request.body()))
    elif kind == JSON:
        yield read_json(await request.body(), "the body"), None
    else:
        text = f"send {JSON}, {MULTIPART} or {URLENCODED}, not {kind[:100] or 'nothing'}"
        raise Refusal(Code.UNSUPPORTED_MEDIA_TYPE, text)
