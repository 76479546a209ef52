"""What an answer of the API server means, and what it means that there is none."""

from __future__ import annotations

import json
import ssl
from typing import Any

import aiohttp

from wan_operator.errors import PermanentError, TransientError

NOT_FOUND = "NotFound"
NOT_SERVED = "NotServed"
"""Our word for an API that the cluster lacks, such as one whose CRD is not installed."""
FOREIGN = "the answer is not the API server's: is there a proxy in between?"


def content(text: bytes, what: str) -> dict[str, Any]:
    """The object in an answer that grants a call. Raises TransientError if it holds none."""
    said = _object(text)
    if said is None or "kind" not in said:
        raise TransientError(f"{what}: {FOREIGN}")
    return said


def refusal(
    status: int, text: bytes, retry_after: str | None, what: str
) -> TransientError | PermanentError:
    """The error that any other answer stands for."""
    said = _object(text)
    reason = str((said or {}).get("reason") or "")
    message = str((said or {}).get("message") or "")
    missing = FOREIGN
    if said is None and status == 404:
        # Only a path that nobody serves is answered in plain text.
        reason, missing = NOT_SERVED, "the API server does not know this path"
    detail = f"{what}: {status} {message or missing}"
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    if reason == "AlreadyExists":
        return PermanentError(detail, reason)
    if status in (401, 409, 410, 429) or status >= 500:
        # 401: a service account token that was rotated is read again with the next call.
        return TransientError(detail, reason=reason, retry_after=seconds)
    return PermanentError(message or detail, reason or "RequestRefused")


def why_unreachable(error: Exception) -> str:
    """Why a call had no answer, in words; the address is in those of the caller."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError | aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted: check the certificate authority and the host name"
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
        return "it does not speak TLS: is the address one of http, not https?"
    if isinstance(error, aiohttp.InvalidURL):
        return "the server's address is no URL"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"there is no host {error.host}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"nothing answers at {error.host}:{error.port}"
    return "the connection ended before the answer"


def _object(text: bytes) -> dict[str, Any] | None:
    """The object of JSON in an answer; None if it holds something else."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
