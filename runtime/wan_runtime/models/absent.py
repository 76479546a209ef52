"""Files that somebody named, and the store lacks or has otherwise. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wan_runtime.artifacts.errors import ArtifactCorrupt, ObjectNotFound
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError


@contextmanager
def store_faults(what: str = "") -> Iterator[None]:
    """Turn what is named, and the store lacks or has otherwise, into InputError: MODEL_NOT_FOUND,
    or MODEL_INVALID where a digest differs. A repeat would find the same."""
    opening = f"{what}: " if what else ""
    try:
        yield
    except ObjectNotFound as error:
        raise InputError(Reason.MODEL_NOT_FOUND, f"{opening}{error.message}") from error
    except ArtifactCorrupt as error:
        raise InputError(Reason.MODEL_INVALID, f"{opening}{error.message}") from error
