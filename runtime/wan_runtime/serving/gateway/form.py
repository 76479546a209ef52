"""Forms as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from wan_runtime.serving.problems import Code, Refusal

FIELDS, FIELD_BYTES = 64, 2**20


class _Parser(MultiPartParser):
    """Takes a part of a picture's type for a file, with or without a file name: HTTP clients that
    are given bytes leave the name out."""

    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        kind = dict(part.item_headers).get(b"content-type", b"")
        if b"filename" not in options and kind.strip().lower().startswith(b"image/"):
            part.content_disposition = (part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()


def urlencoded(body: bytes) -> FormData:
    """The fields of an urlencoded form. Raises Refusal(INVALID_REQUEST)."""
    if body.lstrip().startswith(b"{"):  # as curl -d sends it
        text = "the body is JSON and is sent as a form: say Content-Type: application/json"
        raise Refusal(Code.INVALID_REQUEST, text)
    try:
        fields: list[tuple[str, str | UploadFile]] = list(
            parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS)
        )
    except ValueError as error:
        text = f"the form cannot be read: it is no UTF-8, or has more than {FIELDS} fields"
        raise Refusal(Code.INVALID_REQUEST, text) from error
    return FormData(fields)


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[FormData]:
    """The fields and at most one file, which is closed at the end. Raises
    Refusal(INVALID_REQUEST)."""
    parser = _Parser(
        request.headers,
        request.stream(),
        max_files=1,
        max_fields=FIELDS,
        max_part_size=FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except BaseException as error:
        # Starlette closes them for its own error alone, not where the client leaves.
        for file in parser._files_to_close_on_error:
            file.close()
        if not isinstance(error, MultiPartException):
            raise
        raise Refusal(
            Code.INVALID_REQUEST,
            "the form cannot be read: it is damaged, or has more than one file, more than "
            f"{FIELDS} fields or {FIELD_BYTES // 2**20} MiB in one; a picture needs a filename",
        ) from error
    try:
        yield form
    finally:
        await form.close()
