"""Videos of a candidate that are there already, in a folder of the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from wan_runtime.artifacts.store import ObjectNotFound, Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.clips import survey
from wan_runtime.data.facts import ClipRejected
from wan_runtime.errors import InputError
from wan_runtime.evaluation.records import Stored, TestClip, Video


class ReadyVideos:
    """Finds the video of a clip: `<name of the recorded file without its ending>.mp4`, where only
    one clip of the test has that name, or `<id of the clip>.mp4`, where no other one has that."""

    def __init__(self, store: Store, uri: str, clips: Sequence[TestClip]) -> None:
        """Raises InputError(DATASET_NOT_FOUND), if `uri` is no folder of a bucket."""
        try:
            self._store, self._folder = store.for_uri(uri), store.parse(uri)[1]
        except ValueError as error:
            raise InputError(Reason.DATASET_NOT_FOUND, f"videos {error}") from error
        self._stems = Counter(_stem(clip) for clip in clips)
        if not any(True for _ in islice(self._store.list(self._key("")), 1)):
            raise InputError(
                Reason.DATASET_NOT_FOUND,
                f"videos {uri} has no file: it needs a video such as {clips[0].id}.mp4 for each "
                "clip",
            )

    def find(self, clip: TestClip, candidate: str, folder: Path) -> Video:
        """The video, or why there is none. `folder`: where it is while it is checked."""
        stem = _stem(clip)
        names = [f"{stem}.mp4"] if self._stems[stem] == 1 else []
        # Recordings may be called as clips are numbered: clip-0003.mp4 is then the recording's.
        if not self._stems[clip.id] - (stem == clip.id):
            names = list(dict.fromkeys([f"{clip.id}.mp4", *names]))
        for name in names:
            try:
                video = self._read(name, folder)
            except ObjectNotFound:
                continue
            except ClipRejected as rejection:
                failure = f"{self._store.uri(self._key(name))} {rejection.message}"
                return Video(clip=clip.id, candidate=candidate, failure=failure)
            return Video(clip=clip.id, candidate=candidate, video=video)
        where = self._store.uri(self._key(""))
        failure = f"{where} has no {' and no '.join(names)}"
        if not names:
            failure = (
                f"no name is that of {clip.recorded.path} alone: several recordings are called "
                f"{stem}, and one is called {clip.id}; rename them"
            )
        return Video(clip=clip.id, candidate=candidate, failure=failure)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}".lstrip("/")

    def _read(self, name: str, folder: Path) -> Stored:
        """Raises ObjectNotFound; ClipRejected, if it is no video."""
        path, key = folder / "ready.mp4", self._key(name)
        try:
            got = self._store.download(key, path)
            survey(path, fps=1, limit=1)
        finally:
            path.unlink(missing_ok=True)
        return Stored(uri=self._store.uri(key), sha256=str(got.sha256), bytes=got.bytes)


def _stem(clip: TestClip) -> str:
    return PurePosixPath(clip.recorded.path).stem
