"""Logging of a pod: JSON for a cluster's collector, plain text for people at a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from wan_runtime.contract.logs import JsonFormatter, TextFormatter

PLAIN = "%(asctime)s %(levelname)-7s %(message)s"


def configure(
    step: str,
    *,
    rank: int | None = None,
    level: int = logging.INFO,
    terminal: bool | None = None,
) -> None:
    """Send all logging of this process to one place. `rank`: its number, if it is one of several.

    JSON goes to standard output, so that standard error keeps the last words of a crash, which the
    supervisor quotes; at a terminal both are one, and plain text goes to standard error.
    """
    plain = sys.stderr.isatty() if terminal is None else terminal
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler(
        sys.stderr if plain else sys.stdout
    )
    handler.setFormatter(
        TextFormatter(PLAIN, datefmt="%H:%M:%S")
        if plain
        else JsonFormatter(step=step, **({} if rank is None else {"rank": str(rank)}))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
