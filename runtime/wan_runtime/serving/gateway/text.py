"""Text and JSON as clients send them, refused by their field where nothing could keep them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import ErrorDetails

from wan_runtime import faults
from wan_runtime.serving.problems import Code, Refusal

UNREADABLE = "is no JSON in UTF-8, is nested too deeply, or holds a number of thousands of digits"


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be text without the character U+0000")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise ValueError(
            f"must be text in UTF-8: character {error.start + 1}, {half}, is half of one"
        ) from None
    return text


Text = Annotated[str, AfterValidator(_storable)]
"""Text that UTF-8 and PostgreSQL can hold: JSON may escape halves of characters and U+0000."""


def read_json(text: bytes | str, what: str, param: str | None = None) -> Any:
    """Value of a JSON text. `what`: its name in messages, with `param` the field's.

    Raises:
        Refusal: INVALID_REQUEST.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        fault = f"is no JSON from {at} on"
    except (ValueError, RecursionError):
        fault = UNREADABLE
    raise Refusal(Code.INVALID_REQUEST, f"{what} {fault}", param=param)


def misfit(fault: ErrorDetails) -> Refusal:
    """Refusal of a request that does not fit its route, after a fault as FastAPI finds it: its
    place begins with `body`, `query`, `path` or `header`."""
    place = fault["loc"]
    if fault["type"] == "json_invalid":
        return Refusal(
            Code.INVALID_REQUEST, f"the body is no JSON from character {int(place[1]) + 1} on"
        )
    param = faults.path(place[1:])
    text = faults.text_of(fault)
    if not param:
        return Refusal(Code.INVALID_REQUEST, f"the {place[0]} {text}")
    return Refusal(Code.INVALID_REQUEST, f"{param}: {text}", param=param)
