"""What the queue raises. The gateway turns these into answers of its closed list."""

from __future__ import annotations


class QueueError(Exception):
    """Base of all below."""


class QueueFull(QueueError):
    """The predicted work that waits is at the service's limit."""

    def __init__(self, limit_seconds: float, wait_seconds: float) -> None:
        super().__init__(
            f"the queue is full: {limit_seconds:g} s of predicted work may wait; it takes more in "
            f"about {wait_seconds:.0f} s"
        )
        self.wait_seconds = wait_seconds
        """Until it is predicted to have room."""


class OwnerFull(QueueFull):
    """The owner has as many unfinished jobs as its key allows."""

    def __init__(self, limit: int, wait_seconds: float) -> None:
        QueueError.__init__(
            self,
            f"this key may have {limit} unfinished videos; the first of them is predicted to end "
            f"in about {wait_seconds:.0f} s",
        )
        self.wait_seconds = wait_seconds
        """Until the first is predicted to end."""


class KeyReused(QueueError):
    """The idempotency key came before with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was used before with another request")


class AfterUnknown(QueueError):
    """A page was requested after a job that the owner does not have."""

    def __init__(self, after: str) -> None:
        super().__init__(f"there is no job {after!r} to continue after")


class QueueAway(QueueError):
    """PostgreSQL did not answer within the patience. Whether the change was made is not known; all
    calls of the queue may be repeated."""


class DatabaseRefused(QueueAway):
    """PostgreSQL answers, and refuses the user, the database or a right: no waiting heals it."""


class SchemaNewer(QueueError):
    """A newer release has changed the tables so that this one can't work with them."""
