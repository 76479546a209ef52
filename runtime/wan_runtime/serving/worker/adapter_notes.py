"""What a check of an adapter found. No torch."""

from __future__ import annotations

import logging
from collections.abc import Callable

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import PROBLEM_CHARACTERS, AdapterNote
from wan_runtime.errors import InputError, OutOfMemoryError, StepError, classify

log = logging.getLogger(__name__)

NOT_ITS_OWN = frozenset({Reason.STORE_UNREACHABLE, Reason.DISK_FULL})
"""Causes outside an adapter: a worker that meets them has to begin anew."""


def noted(adapter: str, check: Callable[[], str]) -> AdapterNote:
    """Note of an adapter; `check` returns what a user should know of a good one.

    Raises:
        StepError: for what is not the adapter's own fault.
    """
    try:
        text = check()
    except Exception as error:
        found = classify(error)
        if found.reason in NOT_ITS_OWN or isinstance(found, OutOfMemoryError):
            raise found from error
        text = found.message
        if not isinstance(error, StepError):
            log.exception("adapter %s cannot be read", adapter)
            text = "cannot be read: the log of the worker has the cause"
        return AdapterNote(
            name=adapter, ready=False, reason=found.reason, message=text[:PROBLEM_CHARACTERS]
        )
    return AdapterNote(name=adapter, ready=True, message=text[:PROBLEM_CHARACTERS])


def refusal(note: AdapterNote) -> InputError:
    """Error of a request that wants an adapter which is not ready."""
    reason = note.reason if note.reason is Reason.MODEL_INVALID else Reason.MODEL_NOT_FOUND
    return InputError(reason, f"adapter {note.name}: {note.message}")
