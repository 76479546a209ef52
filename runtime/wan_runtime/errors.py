"""Errors that end a step. Raised anywhere below `wan_runtime`, caught once, by the supervisor.

Each carries the reason and the exit class of the contract; its text is for the user: what is wrong,
where, and what would be right.
"""

from __future__ import annotations

from wan_runtime.contract.job import ExitClass, Reason


class StepError(Exception):
    """Base: ends the step with this class and reason."""

    exit_class: ExitClass = ExitClass.INFRASTRUCTURE

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class InputError(StepError):
    """The user's input is wrong; a retry cannot help."""

    exit_class = ExitClass.INPUT


class OutOfMemoryError(StepError):
    """GPU or host memory ran out."""

    exit_class = ExitClass.OUT_OF_MEMORY


class InfrastructureError(StepError):
    """Store, node or driver; a retry may help."""

    exit_class = ExitClass.INFRASTRUCTURE


class Stopped(StepError):
    """SIGTERM arrived and the state was saved."""

    exit_class = ExitClass.STOPPED


class NumericalError(StepError):
    """Training diverged or trains nothing."""

    exit_class = ExitClass.NUMERICAL
