"""The verdict on one row: its paths, its caption, its clip and the files beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_runtime.artifacts.store import ObjectNotFound
from wan_runtime.contract.dataset import Bucket, DatasetSpec
from wan_runtime.data import quality
from wan_runtime.data.buckets import kept, shaped
from wan_runtime.data.captions import TOKENS, Count
from wan_runtime.data.clips import check_clip, choose, read_picture, survey
from wan_runtime.data.dataset import Clip, Code, Concern, StoredFile, Warned
from wan_runtime.data.decode import suffix_of
from wan_runtime.data.facts import ClipRejected, Facts
from wan_runtime.data.formats.rows import Row
from wan_runtime.data.names import Names
from wan_runtime.data.source import ADDRESS, Place, Source, path_fault, printable
from wan_runtime.errors import StepError

log = logging.getLogger(__name__)

Opens = Callable[..., object]
CROPPED_SHARE = 0.5
"""Share of the picture that a bucket keeps, below which a warning is given. A 16:9 clip in a square
keeps more, in 9:16 less."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A row with its verdict, and what is needed of its pictures."""

    clip: Clip
    fingerprint: NDArray[np.uint64] | None = None
    """Fingerprint of an accepted clip."""
    thumbnail: bytes | None = None
    """WebP. None if nothing could be decoded."""


class Checker:
    """Checks one row after another, from several threads."""

    def __init__(self, source: Source, spec: DatasetSpec, folder: Path, count: Count) -> None:
        """`folder`: where a file is while it is checked, and no longer. `count`: the tokens of a
        caption."""
        self._source = source
        self._spec = spec
        self._folder = folder
        self._count = count
        self._names = Names(source)

    def __call__(self, row: Row) -> Checked:
        """The row with its verdict."""
        place = row.video
        path = str(PurePosixPath(place.path)) if place.path else ""
        if ADDRESS in place.path:
            path = place.path  # PurePosixPath makes one slash of the two
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
        if row.fault is not None:
            return Checked(reject(clip, row.fault.code, row.fault.message))
        if (fault := path_fault(row.video.path)) is not None:
            hint = self._names.hint(path) if path else ""
            return Checked(reject(clip, Code.PATH_INVALID, f"{fault}{hint}"))
        if not row.prompt:
            return Checked(reject(clip, Code.CAPTION_EMPTY, "has no caption"))
        if place.archive is None:
            found = self._names.find(path)
            if found is None:
                text = f"does not exist: {printable(clip.uri)}{self._names.hint(path)}"
                return Checked(reject(clip, Code.NOT_FOUND, text))
            place = Place(found)
            clip = clip.model_copy(
                update={
                    "path": found,
                    "uri": self._source.uri(found),
                    "key": self._source.key(found),
                }
            )
        checked = self._inspect(clip, place, row)
        if checked.clip.code is not Code.ACCEPTED:
            return checked
        return replace(checked, clip=self._beside(checked.clip, row))

    def _inspect(self, clip: Clip, place: Place, row: Row) -> Checked:
        scratch = self._folder / f"{clip.row}{suffix_of(clip.path)}"
        try:
            with self._source.opened(place, scratch) as (path, got), unforeseen(clip.path):
                clip = clip.model_copy(update={"sha256": got.sha256, "bytes": got.bytes})
                return self._examine(clip, path, row)
        except ObjectNotFound:
            return Checked(reject(clip, Code.NOT_FOUND, f"does not exist: {clip.uri}"))
        except ClipRejected as rejection:
            clip = reject(_with_facts(clip, rejection.facts), rejection.code, rejection.message)
            stills = rejection.facts.stills
            return Checked(clip, thumbnail=quality.thumbnail(np.stack(stills)) if stills else None)

    def _examine(self, clip: Clip, path: Path, row: Row) -> Checked:
        spec = self._spec
        bucket, total = self._cut_to(path, row)
        facts = check_clip(
            path,
            frames=bucket.frames,
            fps=spec.fps,
            width=bucket.width,
            height=bucket.height,
            window=spec.window,
            windows=spec.windows_per_clip,
            total=total,
        )
        windows = [facts.window(number, bucket.frames) for number in range(len(facts.starts))]
        warnings = (
            *self._of_caption(clip.prompt),
            *self._of_pictures(facts, windows),
            *self._of_crop(facts, bucket),
            *_of_source(facts),
        )
        clip = _with_facts(clip, facts).model_copy(
            update={"starts": facts.starts, "bucket": bucket, "warnings": warnings}
        )
        frames = np.concatenate(windows)
        return Checked(clip, quality.fingerprint(frames), quality.thumbnail(frames))

    def _cut_to(self, path: Path, row: Row) -> tuple[Bucket, int | None]:
        """The bucket of a clip, and the frames of all of it if they had to be counted. Raises
        ClipRejected."""
        spec = self._spec
        buckets = row.allowed(spec.buckets)
        if len(buckets) == 1:
            return buckets[0], None
        whole, lengths = spec.window != "First", {each.frames for each in buckets}
        limit = max(lengths) if len(lengths) > 1 else 1
        facts = survey(path, fps=spec.fps, limit=None if whole else limit)
        return choose(facts, buckets, spec.fps), facts.frames if whole else None

    def _of_caption(self, caption: str) -> Iterator[Warned]:
        tokens = self._count(caption)
        if tokens > TOKENS:
            text = f"its caption has about {tokens} tokens; the model reads {TOKENS}"
            yield Warned(code=Concern.CAPTION_TOO_LONG, message=text)

    def _of_pictures(self, facts: Facts, windows: Sequence[quality.Stills]) -> Iterator[Warned]:
        fps = self._spec.fps
        for start, stills in zip(facts.starts, windows, strict=True):
            levels, repeated = quality.drift(stills), quality.repeats(stills)
            if cuts := quality.cuts(stills):
                at = ", ".join(f"{(start + cut) / fps:.1f} s" for cut in cuts)
                yield Warned(code=Concern.SCENE_CUT, message=f"cuts to another scene at {at}")
            if levels < quality.STILL_LEVELS:
                text = f"hardly moves from {start / fps:.1f} s on: {levels:.1f} of 255 levels"
                yield Warned(code=Concern.NEAR_STATIC, message=text)
            elif repeated > quality.REPEATED_SHARE * len(stills):
                text = (
                    f"{repeated} of {len(stills)} frames at {fps:g} fps repeat the one before: "
                    f"it has {facts.fps:g} fps, or stalls"
                )
                yield Warned(code=Concern.REPEATED_FRAMES, message=text)
        if found := quality.bars(np.concatenate(windows)):
            yield Warned(code=Concern.BLACK_BARS, message=f"has the black bars of a {found}")

    def _of_crop(self, facts: Facts, bucket: Bucket) -> Iterator[Warned]:
        share = kept(bucket, facts.width, facts.height, facts.pixel_aspect)
        if share < CROPPED_SHARE:
            text = f"{share:.0%} of its {facts.size} are in {bucket}"
            better = shaped(bucket, facts.width, facts.height, facts.pixel_aspect)
            if better is not None:
                more = kept(better, facts.width, facts.height, facts.pixel_aspect)
                text += f"; {better} in dataset.buckets would have {more:.0%}"
            yield Warned(code=Concern.CROPPED, message=text)

    def _beside(self, clip: Clip, row: Row) -> Clip:
        checks: tuple[tuple[str, str, Code, Opens, dict[str, Any]], ...] = (
            ("first_frame", row.first_frame, Code.FIRST_FRAME_INVALID, read_picture, {}),
            ("control_video", row.control_video, Code.CONTROL_VIDEO_INVALID, check_clip, _VIDEO),
            ("vace_video", row.vace_video, Code.VACE_VIDEO_INVALID, check_clip, _VIDEO),
        )
        for field, path, code, opens, wanted in checks:
            if not path:
                continue
            what = f"its {field.replace('_', ' ')} {printable(path)}"
            if (fault := path_fault(path)) is not None:
                return reject(clip, code, f"{what} {fault}")
            path = str(PurePosixPath(path))
            if (found := self._names.find(path)) is None:
                uri = printable(self._source.uri(path))
                text = f"{what} does not exist: {uri}{self._names.hint(path)}"
                return reject(clip, code, text)
            path = found
            scratch = self._folder / f"{row.number}-{field}{suffix_of(path)}"
            try:
                with self._source.opened(Place(path), scratch) as (file, got), unforeseen(path):
                    opens(file, width=clip.size.width, height=clip.size.height, **wanted)
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
"""Arguments of `check_clip` for a video that is recorded only: it opens and has one picture of the
size."""


@contextmanager
def unforeseen(path: str) -> Iterator[None]:
    """Whatever else is raised over one file becomes its verdict, and the others get theirs. Not
    what the store or this machine lacks: a retry may have it."""
    try:
        yield
    except (ClipRejected, StepError, OSError, MemoryError):
        raise
    except Exception as error:
        log.debug("%s: not foreseen", path, exc_info=True)
        raise ClipRejected(
            Code.UNREADABLE,
            "is not read, for a cause not foreseen: encode it anew",
            Facts(),
        ) from error


def _of_source(facts: Facts) -> Iterator[Warned]:
    if facts.interlaced:
        text = "is interlaced: deinterlaced to one frame for each pair of fields"
        yield Warned(code=Concern.INTERLACED, message=text)
    if facts.hdr:
        text = f"is HDR ({facts.hdr}): tone-mapped to BT.709, with less in its highlights"
        yield Warned(code=Concern.HDR, message=text)


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
