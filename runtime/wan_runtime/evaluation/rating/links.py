"""Links to the page: a random token for each rater, and one for who watches the progress.

Made once and kept in the store alone. They are in no log and no status.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError

from wan_runtime.artifacts.store import ArtifactCorrupt, ObjectNotFound, Store
from wan_runtime.contract.base import Contract
from wan_runtime.faults import described

FILE = "links.json"
Token = Annotated[str, Field(min_length=16)]


class Links(Contract):
    """links.json."""

    opened: AwareDatetime
    """First start of the page, from which the deadline counts."""
    admin: Token
    """Token of the page that shows the progress and the links of the raters."""
    raters: dict[str, Token]
    """Tokens by the names of the raters, also of those who are no longer invited."""

    @classmethod
    def opened_at(cls, store: Store, prefix: str, raters: Sequence[str], now: datetime) -> Links:
        """The links that the store keeps, with new ones for new raters.

        Raises ArtifactCorrupt for a file that is none of ours.
        """
        key = f"{prefix}/{FILE}"
        kept = _read(store, key)
        found = kept or cls(opened=now, admin=_token(), raters={})
        new = {rater: _token() for rater in raters if rater not in found.raters}
        found = found.model_copy(update={"raters": {**found.raters, **new}})
        if found == kept:
            return found
        store.put_bytes(key, found.model_dump_json(by_alias=True, indent=1).encode())
        # Another attempt may have written at the same time: what the store has is what counts.
        return _read(store, key) or found

    def rater(self, token: str, invited: Sequence[str]) -> str | None:
        """Name of the rater whose token it is, among those who are invited. Takes the same time for
        any token."""
        found = None
        for name in invited:
            if _same(token, self.raters[name]):
                found = name
        return found

    def is_admin(self, token: str) -> bool:
        """Whether it is the token of the progress."""
        return _same(token, self.admin)


def _token() -> str:
    """128 random bits, in 22 characters."""
    return secrets.token_urlsafe(16)


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _read(store: Store, key: str) -> Links | None:
    try:
        return Links.model_validate_json(store.get_bytes(key))
    except ObjectNotFound:
        return None
    except ValidationError as error:
        raise ArtifactCorrupt(
            f"{store.uri(key)} is none of ours: {described(error)}; restore it, or delete it to "
            "have new links made"
        ) from error
