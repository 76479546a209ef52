"""Which videos a new revision of a service gets while it is tried out: the canary's share.

The operator writes a `Rollout` into a folder that gateways mount; a video's track is decided once,
as it is submitted. Pydantic only: no torch.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated

from pydantic import Field

from wan_runtime.contract.base import Contract

ROLLOUT_FOLDER = "/etc/wan-rollout"
"""Mounted ConfigMap, as a folder, so that the kubelet refreshes it."""
ROLLOUT_FILE = "rollout.json"


class Track(StrEnum):
    """Who renders a video: workers of the canary's revision, or all others."""

    STABLE = "stable"
    CANARY = "canary"


class Rollout(Contract):
    canary: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Revision of the workers that are tried out. None: all workers are alike."""
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Percent of new videos that go to it."""
    number: Annotated[int, Field(ge=0)] = 0
    """Grows with each change, and beyond those of an earlier service of the name: a lower one never
    takes the place of a higher one: the time in seconds since 1970, or one more than the last. 0:
    an operator that does not number them."""
    begun: datetime | None = None
    """Time at which the rollout of `canary` began: it is judged by what its workers have rendered
    since, whatever became of its share meanwhile. None: without a canary."""

    def drawn(self, subject: str) -> Track:
        """Track of a new video: the same for the same subject, as long as the canary is the same. A
        growing weight moves no subject back to stable."""
        if self.canary is None:
            return Track.STABLE
        digest = sha256(f"{self.canary}/{subject}".encode()).digest()
        return Track.CANARY if int.from_bytes(digest[:8]) % 100 < self.weight else Track.STABLE

    def claimed_by(self, revision: str) -> Track | None:
        """What workers of this revision claim. None: everything."""
        if self.canary is None:
            return None
        return Track.CANARY if revision == self.canary else Track.STABLE
