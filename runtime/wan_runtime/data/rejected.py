"""Why a picture is not taken."""

from __future__ import annotations


class PictureRejected(Exception):
    """`message` goes on after the picture's name: `is empty`, `has no …`."""

    def __init__(self, message: str, *, unsupported: bool = False) -> None:
        """`unsupported`: it is of a kind that is never read."""
        super().__init__(message)
        self.message, self.unsupported = message, unsupported
