"""API keys: a mounted Secret, a file a key. Its content is the key, whose hash owns the videos; the
file's name is what people and limits call it."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.serving.problems import Code, Refusal

log = logging.getLogger(__name__)

FORM = "write one line of A-Z, a-z, 0-9, - and _"


@dataclass(frozen=True, slots=True)
class Key:
    """An API key that a request came with."""

    name: str
    """Name of its file."""
    id: str
    """The same for the same key under any name, and only for it."""


class Keys:
    """Reads the folder at every request: the kubelet swaps the files when the Secret changes, so a
    key that is taken out ends within a minute, and nothing restarts."""

    def __init__(self, folder: Path, service: str) -> None:
        """`service`: id of the service, which no other has."""
        self._folder = folder
        self._service = service.encode()
        self._said: list[str] = []

    def caller(self, authorization: str | None) -> Key:
        """The key in an `Authorization: Bearer …` header.

        Raises:
            Refusal: INVALID_API_KEY.
        """
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Refusal(Code.INVALID_API_KEY, "send an API key as Authorization: Bearer <key>")
        digest = _digest(given.strip().encode())
        keys, found = self.check(), None
        # All of them, in constant time: how long it takes says nothing of a key.
        for name, key in keys.items():
            if hmac.compare_digest(_digest(key), digest):
                found = Key(name, self._id(key))
        if found is None:
            raise Refusal(Code.INVALID_API_KEY, "this API key is not known")
        return found

    def ids(self) -> dict[str, str]:
        """Ids of the keys that are there now, by name."""
        return {name: self._id(key) for name, key in self.check().items()}

    def _id(self, key: bytes) -> str:
        """The HMAC of the key, made with the service's id, so that rows of two services do not show
        that they have a key in common."""
        return f"key_{hmac.new(self._service, key, hashlib.sha256).hexdigest()[:32]}"

    def check(self) -> dict[str, bytes]:
        """The keys by their names. Logs what is wrong with them, once; never a key."""
        keys, faults = self._read()
        for fault in faults:
            if fault not in self._said:
                log.warning("API keys in %s: %s", self._folder, fault)
        self._said = faults
        return keys

    def missing(self) -> str | None:
        """Why no request can have a key, without the keys themselves; None if one can."""
        keys, faults = self._read()
        if any(map(_is_usable, keys.values())):
            return None
        return f"API keys, the Secret of spec.gateway.keysSecretRef: {'; '.join(faults)}"

    def _read(self) -> tuple[dict[str, bytes], list[str]]:
        keys, faults = {}, []
        # The kubelet's own folders in the mount begin with "..".
        for path in sorted(self._folder.glob("[!.]*")):
            try:
                if path.is_file():
                    keys[path.name] = path.read_bytes().strip()
            except OSError as error:  # also while the kubelet swaps the files
                faults.append(f"{path.name} cannot be read: {error.strerror}")
        faults += _faults(keys)
        if not keys:
            faults.append("there is none, so every request is refused: add one to the Secret")
        return keys, faults


def _is_usable(key: bytes) -> bool:
    """Whether a header of a request can carry it."""
    return bool(key) and key.isascii() and key.decode().isprintable()


def _faults(keys: Mapping[str, bytes]) -> list[str]:
    """What no request can match, and what two names share."""
    faults, names = [], dict[bytes, str]()
    for name, key in keys.items():
        if not key:
            faults.append(f"{name} is empty, so no request matches it: {FORM}")
        elif len(key.splitlines()) > 1:
            faults.append(f"{name} has several lines, so no request matches it: {FORM}")
        elif not _is_usable(key):
            place = next(at for at, byte in enumerate(key) if not 32 <= byte < 127)
            faults.append(
                f"{name} holds the byte 0x{key[place]:02x} at {place + 1}, which no header of a "
                f"request can carry: {FORM}"
            )
        elif key in names:
            faults.append(
                f"{names[key]} and {name} are equal, so requests of both count as {name}'s: give "
                "each its own"
            )
        names[key] = name
    return faults


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
