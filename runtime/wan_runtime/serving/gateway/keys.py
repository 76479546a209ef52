"""API keys: a mounted Secret, a file a key. The file's name is the owner's, its content the key."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from wan_runtime.serving.problems import Code, Refusal


class Keys:
    """Reads the folder at every request: the kubelet swaps the files when the Secret changes, so a
    key that is taken out ends within a minute, and nothing restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def owner(self, authorization: str | None) -> str:
        """The name of the key in an `Authorization: Bearer …` header.

        Raises:
            Refusal: INVALID_API_KEY.
        """
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Refusal(Code.INVALID_API_KEY, "send an API key as Authorization: Bearer <key>")
        digest = _digest(given.strip().encode())
        found = None
        # All of them, in constant time: how long it takes tells nothing of a key.
        for path in self._files():
            if hmac.compare_digest(_digest(path.read_bytes().strip()), digest):
                found = path.name
        if found is None:
            raise Refusal(Code.INVALID_API_KEY, "this API key is not known")
        return found

    def _files(self) -> list[Path]:
        # The kubelet's own folders in the mount begin with "..".
        return [path for path in sorted(self._folder.glob("[!.]*")) if path.is_file()]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
