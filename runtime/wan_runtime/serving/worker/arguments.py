"""The command line of `wan-runtime worker`. Imported by every command: it must stay light."""

from __future__ import annotations

import argparse
import importlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from wan_runtime.serving import start

RANKS = (1, 2, 4, 8)
"""Numbers of ranks: halves of halves."""
GRACE_SECONDS = 30.0
"""As Kubernetes gives, if nothing else is said."""
TEXT = "render the videos in a service's queue (GPU)"

EPILOG = """\
environment:
  WAN_DATABASE_URL                           postgresql://user:password@host/database
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   credentials of the store
  WAN_POD_NAME, WAN_REVISION                 names of the pod, and of the revision that it runs
  WAN_MODEL_CACHE    folder for the base model, shared by the pods of a node (the scratch folder)
  WAN_COMPILE_CACHE  folder for compiled kernels (`compiled` in WAN_MODEL_CACHE, if that is set)
  WAN_PROGRESS_PORT  port of /healthz, /readyz, /metrics and /info (9400)

Until the database admits it, it waits and tries again: /state has the cause.

exit codes:
  0   stopped on request; it holds no job
  10  the service file, the environment or the base model is wrong
  30  the database does not answer, the ranks cannot be started, or a bug; the current job went
      back to the queue
"""


def add_to(commands: Any) -> None:
    """The command line of `worker`. `commands`: of the root parser."""
    command = start.add_command(commands, "worker", TEXT, EPILOG)
    start.add_service(command)
    command.add_argument(
        "--ranks",
        type=int,
        choices=RANKS,
        default=1,
        help="number of processes that compute one video together, each on a GPU of its own "
        "(default: %(default)s)",
    )
    command.add_argument(
        "--grace",
        type=_seconds,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="time from SIGTERM to SIGKILL; a video that is not done by then goes back to the "
        "queue (default: %(default)s)",
    )
    command.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="scratch folder for the model, adapters and frames (default: a temporary one)",
    )
    command.set_defaults(run=_run)


def _seconds(text: str) -> float:
    """Raises ArgumentTypeError for a number that is negative, infinite or none."""
    with suppress(ValueError):
        if 0 <= (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, such as 30")


def _run(options: argparse.Namespace) -> int:
    # Imported here: no other command needs asyncpg.
    return int(importlib.import_module("wan_runtime.serving.worker.command").run(options))
