"""`wan-runtime gateway`: what the pods of a `WanInferenceService` run."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from wan_runtime.contract.rollout import ROLLOUT_FOLDER
from wan_runtime.contract.service import KEYS_FOLDER
from wan_runtime.errors import StepError
from wan_runtime.process.pages import chosen_port
from wan_runtime.serving import start
from wan_runtime.serving.webhook_secret import WebhookSecret

HELP = "serve the video API of a WanInferenceService (CPU)"
EPILOG = """\
environment:
  WAN_DATABASE_URL                           postgresql://user:password@host/database
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   credentials of the store
  WAN_WEBHOOK_SECRET                         key that signs webhooks (none: no webhook is sent)
  WAN_PROGRESS_PORT  port of /healthz, /readyz, /metrics and /state, not for clients (9400)

Until the database admits it, it waits and tries again: /state has the cause.

exit codes: 0 stopped on request; 10 the service file or the environment is wrong; 30 the store
cannot be used
"""


def add_to(commands: Any) -> None:
    """The command line of `gateway`. `commands`: of the root parser."""
    gateway = start.add_command(commands, "gateway", HELP, EPILOG)
    default = "(default: %(default)s)"
    start.add_service(gateway)
    gateway.add_argument(
        "--keys",
        type=Path,
        default=Path(KEYS_FOLDER),
        metavar="DIR",
        help=f"folder of API keys, one file for each key {default}",
    )
    gateway.add_argument(
        "--rollout",
        type=Path,
        default=Path(ROLLOUT_FOLDER),
        metavar="DIR",
        help=f"folder of rollout.json, which names a canary; without it there is none {default}",
    )
    gateway.add_argument("--host", default="0.0.0.0", help=f"address to listen on {default}")
    gateway.add_argument("--port", type=int, default=8080, help=f"port to listen on {default}")
    gateway.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until stopped. Returns the exit code."""
    try:
        service, database = start.given(options)
        # Imported here: no other command needs asyncpg, and FastAPI is in the gateway's image
        # alone.
        importlib.import_module("wan_runtime.serving.gateway.server").serve(
            service,
            database=database,
            keys=options.keys,
            webhook_secret=WebhookSecret.given(),
            rollout=options.rollout,
            host=options.host,
            port=options.port,
            pages_port=chosen_port(),
        )
    except StepError as error:
        return start.ended(error.message, error.exit_class)
    return 0
