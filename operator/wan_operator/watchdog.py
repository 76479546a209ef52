"""Tells a dead watch from a quiet one.

kopf swallows bookmarks, so silence proves nothing. The sign is a full LIST that meets an object
version which the watch does not deliver within a minute.
"""

from __future__ import annotations

import time

GRACE_SECONDS = 60.0


class Watchdog:
    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str]] = {}
        """uid -> (kind, newest version that a watch has delivered)."""
        self._suspects: dict[str, tuple[str, float]] = {}
        """uid -> (kind, when a LIST met a version of it that no watch had delivered)."""
        self._last: dict[str, float] = {}

    def saw(self, kind: str, uid: str, version: str, *, gone: bool = False) -> None:
        self._last[kind] = time.monotonic()
        self._suspects.pop(uid, None)
        if gone:
            self._seen.pop(uid, None)
        else:
            self._seen[uid] = (kind, version)

    def listed(self, kind: str, uid: str, version: str) -> bool:
        """Whether a watch has delivered this version; if not, it has a minute to."""
        if self._seen.get(uid) == (kind, version):
            return True
        self._suspects.setdefault(uid, (kind, time.monotonic()))
        return False

    def keep_only(self, kind: str, uids: set[str]) -> None:
        """Forgets what the LIST of a kind does not have any more: its end may have been in a gap of
        the watch."""
        for uid, (its_kind, _) in list(self._seen.items()):
            if its_kind == kind and uid not in uids:
                del self._seen[uid]
        for uid, (its_kind, _) in list(self._suspects.items()):
            if its_kind == kind and uid not in uids:
                del self._suspects[uid]

    def dead(self) -> list[str]:
        """Kinds whose watch has not delivered in time."""
        limit = time.monotonic() - GRACE_SECONDS
        return sorted({kind for kind, since in self._suspects.values() if since < limit})

    def ages(self) -> dict[str, float]:
        now = time.monotonic()
        return {kind: now - when for kind, when in self._last.items()}
