"""`wan-runtime clear`: the pod that removes what a deleted service or a fine-tune left."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.left import VARIABLE, Left, LeftFolders
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError, StepError
from wan_runtime.faults import described
from wan_runtime.serving import database_url, start

log = logging.getLogger(__name__)

HELP = "remove what a deleted service, or a fine-tune that failed, left (CPU)"
EPILOG = f"""\
environment:
  {VARIABLE}                                   what is left, as the operator writes it
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   credentials of the store
  WAN_DATABASE_URL                           postgresql://user:password@host/database, for a service

exit codes: 0 removed; 10 the environment is wrong, it is not due yet, somebody still uses it, or
the store or the database refuses; 30 one of them does not answer
"""


def add_to(commands: Any) -> None:
    """The command line of `clear`. `commands`: of the root parser."""
    clear = start.add_command(commands, "clear", HELP, EPILOG)
    clear.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Remove it. Returns the exit code."""
    try:
        clear(given(os.environ), os.environ)
    except StepError as error:
        return start.ended(error.message, error.exit_class)
    return 0


def given(environ: Mapping[str, str]) -> Left:
    """What is left. Raises InputError(JOB_INVALID), also before it is due."""
    try:
        left = Left.model_validate_json(environ.get(VARIABLE, ""))
    except ValidationError as error:
        text = f"{VARIABLE} does not fit this runtime: {described(error)}"
        raise InputError(Reason.JOB_INVALID, text) from error
    if datetime.now(UTC) < left.due:
        text = f"nothing is removed before {left.due:%Y-%m-%d %H:%M:%S} UTC"
        raise InputError(Reason.JOB_INVALID, text)
    return left


def clear(left: Left, environ: Mapping[str, str]) -> None:
    """Remove it. Raises StepError."""
    store = Store.connect(left.store)
    if left.folders is not None:
        clear_folders(store, left.folders)
    if left.queue is not None:
        # Imported here: no other command needs asyncpg.
        remains = importlib.import_module("wan_runtime.serving.remains")
        url = database_url.checked(environ.get(database_url.VARIABLE, ""))
        asyncio.run(remains.clear(left.queue, url, store))


def clear_folders(store: Store, folders: LeftFolders) -> None:
    """Remove all below them. Raises InputError(JOB_INVALID) if any of it was written after the end:
    pods of the run still train, as orphans or in a copy of the cluster."""
    found = [entry for key in folders.keys for entry in store.list(key)]
    for entry in found:
        if entry.modified is None or entry.modified > folders.ended_at:
            text = f"{store.uri(entry.key)} is newer than its run: nothing is removed"
            raise InputError(Reason.JOB_INVALID, text)
    store.delete([entry.key for entry in found])
    log.info("%d objects removed below %s", len(found), ", ".join(map(store.uri, folders.keys)))
