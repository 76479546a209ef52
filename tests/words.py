"""Words that only somebody who knows the libraries understands: no message to a user holds them."""

from __future__ import annotations

import re

LIBRARY = re.compile(
    r"Traceback|\w+(?:Error|Exception)\b|pydantic|yaml\.|tag:yaml|For further information"
    r"|expected <"
    r"|\bNone\b|\bTrue\b|\bFalse\b|\bdict\b|\bstr\b|\bbytes\b|b'|Errno|_ssl\.c|codec|object has no"
    r"|scalar|constructor|flow (?:node|mapping)|argument of type|subscriptable|item assignment"
)


def library_words(text: str) -> list[str]:
    """Those of `text`."""
    return LIBRARY.findall(text)
