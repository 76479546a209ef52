"""The format of log lines, the same for the operator and the pods."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, and error with its
    traceback. `fields`, and what a call passes as `extra`, stand beside them."""

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
            **extra(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Plain text, with what a call passes as `extra` as `key=value` at its end."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        pairs = "".join(f" {key}={value}" for key, value in extra(record).items())
        return super().format(record) + pairs


def extra(record: logging.LogRecord) -> dict[str, Any]:
    """What the call passed as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _RECORD}
