"""Whether a store will do what is wanted of it: a small object is written, read and removed."""

from __future__ import annotations

import secrets
from contextlib import suppress

from wan_runtime.artifacts.errors import ObjectNotFound
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError, StepError

NAME = ".probe"
"""Name of the object, below a prefix. Always the same for one writer: where it cannot be removed,
one is left."""


def probe(store: Store, key: str) -> None:
    """Raises InfrastructureError with what the store refuses and its words. `key`: no other
    process probes it at the same time."""
    content = secrets.token_hex(16).encode()
    store.put_bytes(key, content)
    try:
        found = store.get_bytes(key)
    except StepError as error:
        with suppress(StepError):
            store.delete([key])
        if isinstance(error, ObjectNotFound):
            text = f"{store.uri(key)} is gone right after it was written: {store.endpoint} lost it"
            raise InfrastructureError(Reason.UNEXPECTED, text) from error
        raise
    store.delete([key])
    if found != content:
        text = f"{store.uri(key)} has other bytes than were written: {store.endpoint} kept old ones"
        raise InfrastructureError(Reason.UNEXPECTED, text)
