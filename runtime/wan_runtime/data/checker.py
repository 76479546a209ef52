"""The verdict on one row: its paths, its caption, its clip and the files beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from wan_runtime.artifacts.store import ObjectNotFound
from wan_runtime.data.clips import ClipRejected, Facts, check_clip, read_picture
from wan_runtime.data.dataset import Clip, Code, StoredFile
from wan_runtime.data.formats.rows import Row
from wan_runtime.data.source import Place, Source, path_fault
from wan_runtime.job import DatasetSpec


class Checker:
    """Checks one row after another, from several threads."""

    def __init__(self, source: Source, spec: DatasetSpec, folder: Path) -> None:
        """`folder`: where a file is while it is looked at, and no longer."""
        self._source = source
        self._spec = spec
        self._folder = folder

    def __call__(self, row: Row) -> Clip:
        """The row with its verdict."""
        place = row.video
        path = str(PurePosixPath(place.path)) if place.path else ""
        place = replace(place, path=path)
        clip = Clip(
            row=row.number,
            path=path,
            uri=self._source.uri(place.file),
            key=self._source.key(place.file),
            offset=None if place.archive is None else place.offset,
            prompt=row.prompt,
            source=row.source,
            code=Code.ACCEPTED,
        )
        if (fault := path_fault(row.video.path)) is not None:
            return reject(clip, Code.PATH_INVALID, fault)
        if not row.prompt:
            return reject(clip, Code.CAPTION_EMPTY, "has no caption")
        clip = self._inspect(clip, place)
        return clip if clip.code is not Code.ACCEPTED else self._beside(clip, row)

    def _inspect(self, clip: Clip, place: Place) -> Clip:
        spec = self._spec
        scratch = self._folder / f"{clip.row}{PurePosixPath(clip.path).suffix}"
        try:
            with self._source.opened(place, scratch) as (path, got):
                clip = clip.model_copy(update={"sha256": got.sha256, "bytes": got.bytes})
                facts = check_clip(
                    path, frames=spec.frames, fps=spec.fps, width=spec.width, height=spec.height
                )
        except ObjectNotFound:
            return reject(clip, Code.NOT_FOUND, f"does not exist: {clip.uri}")
        except ClipRejected as rejection:
            return reject(_with_facts(clip, rejection.facts), rejection.code, rejection.message)
        return _with_facts(clip, facts)

    def _beside(self, clip: Clip, row: Row) -> Clip:
        spec = self._spec
        checks: tuple[tuple[str, str, Code, Callable[..., object], dict[str, Any]], ...] = (
            ("first_frame", row.first_frame, Code.FIRST_FRAME_INVALID, read_picture, {}),
            ("control_video", row.control_video, Code.CONTROL_VIDEO_INVALID, check_clip, _VIDEO),
            ("vace_video", row.vace_video, Code.VACE_VIDEO_INVALID, check_clip, _VIDEO),
        )
        for field, path, code, look, wanted in checks:
            if not path:
                continue
            what = f"its {field.replace('_', ' ')} {path}"
            if (fault := path_fault(path)) is not None:
                return reject(clip, code, f"{what} {fault}")
            path = str(PurePosixPath(path))
            scratch = self._folder / f"{row.number}-{field}{PurePosixPath(path).suffix}"
            try:
                with self._source.opened(Place(path), scratch) as (file, got):
                    look(file, width=spec.width, height=spec.height, **wanted)
            except ObjectNotFound:
                return reject(clip, code, f"{what} does not exist: {self._source.uri(path)}")
            except ClipRejected as rejection:
                return reject(clip, code, f"{what} {rejection.message}")
            stored = StoredFile(
                path=path,
                uri=self._source.uri(path),
                key=self._source.key(path),
                bytes=got.bytes,
                sha256=got.sha256,
            )
            clip = clip.model_copy(update={field: stored})
        return clip


_VIDEO = {"frames": 1, "fps": 1.0}
"""Of a video that is recorded only: it opens and shows a picture of the size."""


def reject(clip: Clip, code: Code, message: str) -> Clip:
    """The clip with this verdict."""
    return clip.model_copy(update={"code": code, "message": message})


def _with_facts(clip: Clip, facts: Facts) -> Clip:
    return clip.model_copy(
        update={
            "width": facts.width or None,
            "height": facts.height or None,
            "fps": facts.fps or None,
            "duration": facts.duration or None,
            "frames": facts.frames,
        }
    )
