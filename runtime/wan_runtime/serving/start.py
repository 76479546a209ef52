"""What gateway and worker both take and read before they begin. Light: every command imports it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wan_runtime.contract.job import TERMINATION_FILE, ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import SERVICE_FILE, ServiceSpec
from wan_runtime.errors import InputError
from wan_runtime.faults import described
from wan_runtime.serving import database_url

log = logging.getLogger(__name__)

WORDS = 1000
"""Characters at most; the kubelet keeps 4 KiB."""


def add_command(commands: Any, name: str, about: str, epilog: str) -> argparse.ArgumentParser:
    """A command without options yet. `commands`: of the root parser."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=f"wan-runtime {name}: {about}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return command


def add_service(command: argparse.ArgumentParser) -> None:
    """The option --service."""
    command.add_argument(
        "--service",
        type=Path,
        default=Path(SERVICE_FILE),
        metavar="FILE",
        help="JSON file of the ServiceSpec, as the operator mounts it (default: %(default)s)",
    )


def given(options: argparse.Namespace) -> tuple[ServiceSpec, str]:
    """The service, and the URL of its database. Raises InputError(JOB_INVALID)."""
    try:
        service = ServiceSpec.model_validate_json(options.service.read_bytes())
    except OSError as error:
        text = f"service file {options.service} cannot be read: {error.strerror}"
        raise InputError(Reason.JOB_INVALID, text) from error
    except ValidationError as error:
        raise InputError(
            Reason.JOB_INVALID,
            f"service file {options.service} does not fit this runtime: {described(error)}. "
            "Do the operator and the runtime image come from one release?",
        ) from error
    return service, database_url.given()


def ended(text: str, code: ExitClass) -> int:
    """The exit code, its cause logged and left in the pod's termination message, where the
    operator reads it."""
    log.error("%s", text)
    with contextlib.suppress(OSError):
        Path(os.environ.get("WAN_TERMINATION_FILE", TERMINATION_FILE)).write_text(text[:WORDS])
    return int(code)
