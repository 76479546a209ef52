"""The cache of rendered videos, shared by all runs of a store prefix: nothing is rendered twice."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from wan_runtime.artifacts.errors import ArtifactCorrupt, ObjectNotFound
from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.evaluation.records import RENDERS, Stored
from wan_runtime.models.digest import canonical_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A video of the cache."""

    video: Stored
    facts: Mapping[str, Any]
    """What it says of how it was made: the comment of the mp4."""


def facts_of(path: Path) -> Mapping[str, Any]:
    """What an mp4 of ours says of how it was made. Raises FFmpegError, KeyError or ValueError for
    one that says nothing."""
    with av.open(str(path)) as container:
        facts = json.loads(container.metadata["comment"])
    if not isinstance(facts, dict):
        raise ValueError("the comment is no JSON object")
    return facts


class RenderCache:
    """Videos named after all that their pixels depend on."""

    def __init__(self, store: Store, prefix: str, folder: Path) -> None:
        """`prefix`: of the caches. `folder`: where a video is while it is read."""
        self._store, self._prefix, self._folder = store, prefix, folder

    def key(self, made_from: Mapping[str, object]) -> str:
        """Key of a video in the bucket."""
        name = hashlib.sha256(canonical_json(dict(made_from))).hexdigest()
        return f"{self._prefix}/{RENDERS}/{name}.mp4"

    def find(self, key: str) -> Kept | None:
        """The video of an earlier attempt or run; None if there is none, or a damaged one."""
        path = self._folder / "kept.mp4"
        try:
            got = self._store.download(key, path)
            facts = facts_of(path)
        except ObjectNotFound:
            return None
        except (ArtifactCorrupt, av.FFmpegError, KeyError, ValueError) as error:
            log.warning("%s is rendered again: %s", self._store.uri(key), error)
            self._store.delete([key])
            return None
        finally:
            path.unlink(missing_ok=True)
        return Kept(self._stored(key, got.sha256, got.bytes), facts)

    def keep(self, key: str, path: Path) -> Stored:
        """Upload a video. Where another run was quicker, its video stays: it has a reader by now,
        who expects its checksum."""
        found = self._store.stat(key)
        if found is None or found.sha256 is None:
            found = self._store.put_file(key, path, sha256=file_sha256(path))
        return self._stored(key, found.sha256, found.bytes)

    def _stored(self, key: str, sha256: str | None, size: int) -> Stored:
        return Stored(uri=self._store.uri(key), sha256=str(sha256), bytes=size)
