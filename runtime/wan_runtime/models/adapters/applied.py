"""Adapters of one video: which files, on which transformers, how strongly. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wan_runtime.contract.base import Contract
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError


class AdapterFile(Contract):
    """One file of an adapter, on this machine."""

    path: str
    address: str
    """Where it is from, for messages."""
    sha256: str = ""
    shared: bool = False
    """Given for whatever transformer it is for, so that it may have nothing for this one."""


class AppliedAdapter(Contract):
    """An adapter of one video."""

    name: str
    files: dict[Expert, AdapterFile]
    """For each transformer that it works on."""
    strength: float


@contextmanager
def naming(adapter: str) -> Iterator[None]:
    """Name the adapter in an InputError about its files."""
    try:
        yield
    except InputError as error:
        raise InputError(error.reason, f"adapter {adapter}: {error.message}") from error
