"""Logging: a JSON object a line for a cluster's collector, plain text for people at a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

PLAIN = "%(asctime)s %(levelname)-7s %(message)s"


class JsonFormatter(logging.Formatter):
    """ts (RFC 3339, UTC), level, logger, message, the step, and error with its traceback."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self._step = step

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, str] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "step": self._step,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure(step: str, *, level: int = logging.INFO, terminal: bool | None = None) -> None:
    """Send all logging of this process to one place.

    JSON goes to standard output, so that standard error keeps the last words of a crash, which the
    supervisor quotes; at a terminal both are one, and plain text goes to standard error.
    """
    plain = sys.stderr.isatty() if terminal is None else terminal
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler(
        sys.stderr if plain else sys.stdout
    )
    handler.setFormatter(
        logging.Formatter(PLAIN, datefmt="%H:%M:%S") if plain else JsonFormatter(step)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
