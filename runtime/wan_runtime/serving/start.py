"""What gateway and worker both take and read before they begin. Light: every command imports it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pydantic import ValidationError

from wan_runtime.errors import InputError
from wan_runtime.job import Reason
from wan_runtime.serving.service import SERVICE_FILE, ServiceSpec


def add_service(command: argparse.ArgumentParser) -> None:
    """The option --service."""
    command.add_argument(
        "--service",
        type=Path,
        default=Path(SERVICE_FILE),
        metavar="FILE",
        help="ServiceSpec as JSON, as the operator mounts it (default: %(default)s)",
    )


def given(options: argparse.Namespace) -> tuple[ServiceSpec, str]:
    """The service, and the URL of its database. Raises InputError(JOB_INVALID)."""
    try:
        service = ServiceSpec.model_validate_json(options.service.read_bytes())
    except (OSError, ValidationError) as error:
        text = f"{options.service} cannot be used: {error}"
        raise InputError(Reason.JOB_INVALID, text) from error
    database = os.environ.get("WAN_DATABASE_URL")
    if not database:
        text = "WAN_DATABASE_URL is not set: postgresql://user:password@host/database"
        raise InputError(Reason.JOB_INVALID, text)
    return service, database
