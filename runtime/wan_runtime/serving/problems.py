"""The closed list of what can go wrong, as clients see it. No other error leaves the service."""

from __future__ import annotations

from enum import StrEnum

from wan_runtime.faults import encodable


class Code(StrEnum):
    """Codes of refused requests, then those of failed jobs."""

    INVALID_REQUEST = "invalid_request"
    """A field is missing, unknown or out of range; `param` names it."""
    INVALID_IMAGE = "invalid_image"
    """The picture does not open, is damaged, or has too many pixels."""
    INVALID_API_KEY = "invalid_api_key"
    NOT_FOUND = "not_found"
    """No such video, or another key's."""
    NOT_READY = "not_ready"
    """The video is not completed."""
    GONE = "gone"
    """The video was kept for as long as it is kept."""
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """The key was used with another request."""
    TOO_LARGE = "payload_too_large"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    """The requested range of bytes begins behind the file's end."""
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    NOT_SUPPORTED = "not_supported"
    """A part of OpenAI's API that these models have nothing for."""
    QUEUE_FULL = "queue_full"
    RATE_LIMITED = "rate_limited"
    MODERATION_REFUSED = "moderation_refused"
    UNAVAILABLE = "service_unavailable"
    """Database, store or moderation do not answer."""

    CANCELLED = "cancelled"
    WORKER_LOST = "worker_lost"
    """The job's worker died again and again."""
    OUT_OF_MEMORY = "out_of_memory"
    ADAPTER_MISMATCH = "adapter_mismatch"
    """The adapter's file is none, or not for this model."""
    ADAPTER_UNAVAILABLE = "adapter_unavailable"
    """The adapter's file cannot be had."""
    NOT_FINITE = "not_finite"
    """Sampling gave NaN."""
    INTERNAL = "internal"
    """A fault of ours; the worker's log has it under the job's id."""


OURS = frozenset(
    {
        Code.WORKER_LOST,
        Code.OUT_OF_MEMORY,
        Code.ADAPTER_MISMATCH,
        Code.ADAPTER_UNAVAILABLE,
        Code.NOT_FINITE,
        Code.UNAVAILABLE,
        Code.INTERNAL,
    }
)
"""Codes of failed jobs whose cause is the workers or the service's own files, not the request."""

STATUS: dict[Code, int] = {
    Code.INVALID_REQUEST: 400,
    Code.INVALID_IMAGE: 400,
    Code.NOT_SUPPORTED: 400,
    Code.MODERATION_REFUSED: 400,
    Code.ADAPTER_MISMATCH: 400,
    Code.ADAPTER_UNAVAILABLE: 400,
    Code.INVALID_API_KEY: 401,
    Code.NOT_FOUND: 404,
    Code.NOT_READY: 409,
    Code.IDEMPOTENCY_KEY_REUSED: 409,
    Code.GONE: 410,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.RANGE_NOT_SATISFIABLE: 416,
    Code.QUEUE_FULL: 429,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
}
"""HTTP status of a refused request."""

KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error"}


class Refusal(Exception):
    """Ends a request with a typed error."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        message = encodable(message)  # it may quote what it refuses
        super().__init__(message)
        self.code, self.message, self.param, self.retry_after = code, message, param, retry_after

    @property
    def status(self) -> int:
        return STATUS[self.code]

    def body(self) -> dict[str, dict[str, str | None]]:
        """OpenAI's error object."""
        kind = KINDS.get(min(self.status, 500), "invalid_request_error")
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": str(self.code),
            }
        }
