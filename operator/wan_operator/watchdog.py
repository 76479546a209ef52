"""Which object versions the watches have delivered: tells a dead watch from a quiet one, and
news from repetition.

kopf swallows bookmarks, so silence proves nothing. The sign is a full LIST that meets an object
version which the watch does not deliver within a minute.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Delivered:
    kind: str
    version: str
    when: float


class Watchdog:
    def __init__(self) -> None:
        self._delivered: dict[str, _Delivered] = {}
        """By uid: the newest that a watch has brought."""
        self._listed: dict[str, str] = {}
        """uid -> version that the last sweep has acted on."""
        self._suspects: dict[str, tuple[str, float]] = {}
        """uid -> (kind, when a LIST met a version of it that no watch had delivered)."""
        self._last: dict[str, float] = {}

    def delivered(self, kind: str, uid: str, version: str, *, gone: bool = False) -> bool:
        """A watch has brought this version. Whether that is news: after a re-LIST most of it is
        not."""
        now = self._last[kind] = time.monotonic()
        self._suspects.pop(uid, None)
        before = self._delivered.pop(uid, None)
        if gone:
            self._listed.pop(uid, None)
            return True
        self._delivered[uid] = _Delivered(kind, version, now)
        return version != self._listed.get(uid) and (before is None or version != before.version)

    def listed(self, kind: str, uid: str, version: str, began: float) -> None:
        """A LIST that began at `began` has met this version; if no watch has, it has a minute
        to."""
        self._listed[uid] = version
        known = self._delivered.get(uid)
        # What came after the LIST began may be newer than what the LIST has seen.
        if known is None or (known.version != version and known.when < began):
            self._suspects.setdefault(uid, (kind, time.monotonic()))

    def forget_listed(self) -> None:
        """The sweep broke off before it acted on what it has listed."""
        self._listed.clear()

    def keep_only(self, kind: str, uids: set[str]) -> None:
        """Forgets what the LIST of a kind does not have any more: its end may have been in a gap
        of the watch."""
        for uid, known in list(self._delivered.items()):
            if known.kind == kind and uid not in uids:
                del self._delivered[uid]
                self._listed.pop(uid, None)
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
