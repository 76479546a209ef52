"""Which object versions the watches have delivered: a dead watch differs from a quiet one, and news
from repetition.

kopf swallows bookmarks, so silence proves nothing. The sign is a full LIST that meets an object
version which the watch does not deliver within a minute.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

GRACE_SECONDS = 60.0

_ByKind = defaultdict[str, dict[str, Any]]
"""Kind -> uid -> what is remembered of the object."""


class Watchdog:
    def __init__(self) -> None:
        self._delivered: _ByKind = defaultdict(dict)
        """(version, when) of the newest that a watch has brought."""
        self._listed: _ByKind = defaultdict(dict)
        """Version that the last sweep has acted on."""
        self._suspects: _ByKind = defaultdict(dict)
        """When a LIST met a version that no watch had delivered."""
        self._last: dict[str, float] = {}

    def delivered(self, kind: str, uid: str, version: str, *, gone: bool = False) -> bool:
        """A watch has brought this version. Whether that is news: after a re-LIST most of it is
        not."""
        now = self._last[kind] = time.monotonic()
        self._suspects[kind].pop(uid, None)
        before = self._delivered[kind].pop(uid, None)
        if gone:
            self._listed[kind].pop(uid, None)
            return True
        self._delivered[kind][uid] = (version, now)
        known = {self._listed[kind].get(uid), before[0] if before else None}
        return version not in known

    def listed(self, kind: str, uid: str, version: str, began: float) -> None:
        """A LIST that began at `began` has met this version; if no watch has, it has a minute
        to."""
        self._listed[kind][uid] = version
        known, when = self._delivered[kind].get(uid, ("", 0.0))
        # What came after the LIST began may be newer than what the LIST has seen.
        if known != version and when < began:
            self._suspects[kind].setdefault(uid, time.monotonic())

    def forget_listed(self) -> None:
        """The sweep broke off before it acted on what it has listed."""
        self._listed.clear()

    def keep_only(self, kind: str, uids: set[str]) -> None:
        """Forgets what the LIST of a kind does not have any more: its end may have been in a gap
        of the watch, or on no watch at all."""
        for remembered in (self._delivered, self._listed, self._suspects):
            for uid in remembered[kind].keys() - uids:
                del remembered[kind][uid]

    def dead(self) -> list[str]:
        """Kinds whose watch has not delivered in time."""
        limit = time.monotonic() - GRACE_SECONDS
        return sorted(
            kind
            for kind, since in self._suspects.items()
            if min(since.values(), default=limit) < limit
        )

    def ages(self) -> dict[str, float]:
        now = time.monotonic()
        return {kind: now - when for kind, when in self._last.items()}
