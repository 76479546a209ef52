"""What a resource left that was deleted, or a fine-tune that failed: for `wan-runtime clear`.

The operator writes a `Left` into the variable WAN_LEFT of a Job: a deleted resource has no
ConfigMaps any more. Pydantic only: no torch.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from wan_runtime.contract.base import Contract
from wan_runtime.contract.job import StoreSpec

VARIABLE = "WAN_LEFT"
FOLDERS = ("checkpoints", "best")
"""What training keeps below the prefix of what it commits, until that is safe."""
SILENCE_SECONDS = 900.0
"""A service of which no gateway or worker was seen for this long, and which was deleted, is gone: a
gateway notes every ten minutes that it lives."""


class LeftQueue(Contract):
    """The queue of a deleted service."""

    namespace: str
    name: str
    uid: str
    cluster: str | None = None
    prefix: str
    """ServiceSpec.prefix."""


class LeftFolders(Contract):
    """What a run wrote into the bucket, to be removed whole."""

    keys: tuple[Annotated[str, Field(pattern=r"^[^/].*/$")], ...]
    """Prefixes of keys. Each ends in a slash."""
    ended_at: AwareDatetime
    """Time by which the run's last pod has ended. Who writes later lives, and keeps everything."""


class Left(Contract):
    """What is to be removed, and when."""

    store: StoreSpec
    due: AwareDatetime
    """Time before which nothing is removed."""
    folders: LeftFolders | None = None
    queue: LeftQueue | None = None
    """Queue whose waiting videos are removed, and those past their retention."""
