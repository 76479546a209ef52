"""Which videos a new revision of a service gets while it is tried out: the canary's share.

The operator writes a `Rollout` into a folder that gateways mount; a video's track is decided once,
as it is submitted. Pydantic only: no torch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from wan_runtime.contract import Contract

ROLLOUT_FOLDER = "/etc/wan-rollout"
"""Mounted ConfigMap, as a folder, so that the kubelet refreshes it."""
ROLLOUT_FILE = "rollout.json"


class Track(StrEnum):
    """Who renders a video: workers of the canary's revision, or all others."""

    STABLE = "stable"
    CANARY = "canary"


class Rollout(Contract):
    canary: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Revision of the workers that are tried out. None: no worker is told from another."""
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Percent of new videos that go to it."""
