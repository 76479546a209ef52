"""Errors of the operator itself, and what is done about each: the one place where that is decided.

Raised by kube.py, caught by the controller's worker and by nobody else. What goes wrong inside a
step is no error here but a Result, see reconcile/failures.py.
"""

from __future__ import annotations


class TransientError(Exception):
    """The API server is away, overloaded or saw a conflict: try the key again with back-off."""

    def __init__(self, message: str, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """The API server's word for it, such as Conflict."""
        self.retry_after = retry_after
        """Seconds the server asked us to wait (429, 503), if it did."""


class PermanentError(Exception):
    """The API server refuses what we ask (403, 422): trying at once cannot help, so the key waits
    for its longest back-off, and the resource says why."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
        """The API server's word for it, such as Forbidden, or a reason of ours."""
