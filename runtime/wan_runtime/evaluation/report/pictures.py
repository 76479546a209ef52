"""Small players and contact sheets within the page."""

from __future__ import annotations

import base64
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from wan_runtime.artifacts.errors import ArtifactCorrupt, ObjectNotFound
from wan_runtime.artifacts.store import Store
from wan_runtime.data.clips import fit
from wan_runtime.data.dataset import bring
from wan_runtime.data.decode import as_verdict, suffix_of, timeline, undecodable
from wan_runtime.data.display import Display
from wan_runtime.data.facts import ClipRejected, Facts
from wan_runtime.evaluation.records import Stored, TestClip, Video
from wan_runtime.evaluation.result import EvaluationResult
from wan_runtime.process.progress import Reporter
from wan_runtime.rendering.media import COLUMNS, Frames, contact_sheet, write_mp4

log = logging.getLogger(__name__)

PLAYED = 12
"""Clips with players, at most. Others have a contact sheet."""
SHEETS = 40
"""Clips with pictures at all, at most."""
SIDE = 384
"""Pixels of a player's longer side."""
CRF = 26
"""Quality of x264: these are for looking at, the videos themselves are in the store."""
LIMIT = 32 * 2**20
"""Bytes of all pictures together, before base64: mail and browsers take a file of 40 MB."""
REFERENCE = "recorded"


@dataclass(frozen=True, slots=True)
class Player:
    """A video on the page."""

    name: str
    """Name of the candidate, or REFERENCE."""
    video: str
    poster: str
    """data: URLs of an MP4 and of its first frame."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the page has of one clip."""

    players: tuple[Player, ...] = ()
    sheet: str = ""
    """data: URL of a picture with frames of all of them at equal times. Empty: there is none."""


class Pictures:
    """Makes what the page shows, within its limit."""

    def __init__(self, store: Store, work: Path) -> None:
        self._store, self._work = store, work
        self._left = LIMIT

    def of(self, result: EvaluationResult, report: Reporter) -> dict[str, Embedded]:
        """Pictures by clip. Where there is no more room, later clips have none."""
        videos: dict[str, list[Video]] = defaultdict(list)
        for video in result.videos:
            if video.render == "First" and video.video is not None:
                videos[video.clip].append(video)
        embedded = {}
        clips = result.clips[:SHEETS]
        for index, clip in enumerate(clips):
            report.update(
                activity="embedding videos", current=index, total=len(clips), unit="clips"
            )
            if self._left <= 0:
                break
            embedded[clip.id] = self._clip(clip, videos[clip.id], play=index < PLAYED)
        return embedded

    def _clip(self, clip: TestClip, videos: Sequence[Video], *, play: bool) -> Embedded:
        count = None if play else COLUMNS
        found = {REFERENCE: self._recorded(clip, count)}
        found |= {each.candidate: self._video(clip, each, count) for each in videos}
        rows = {name: frames for name, frames in found.items() if frames is not None}
        if not rows:
            return Embedded()
        sheet = self._sheet(rows)
        if not play:
            return Embedded(sheet=sheet)
        return Embedded(players=self._players(clip, rows), sheet=sheet)

    def _players(self, clip: TestClip, rows: Mapping[str, Frames]) -> tuple[Player, ...]:
        made = []
        for name, frames in rows.items():
            path, first = self._work / "player.mp4", self._work / "poster.webp"
            write_mp4(frames, path, clip.fps, crf=CRF)
            Image.fromarray(frames[0]).save(first, quality=80)
            poster, video = self._url("image/webp", first), self._url("video/mp4", path)
            if video:
                made.append(Player(name, video, poster))
        return tuple(made)

    def _sheet(self, rows: Mapping[str, Frames]) -> str:
        drawn, path = self._work / "sheet.png", self._work / "sheet.webp"
        contact_sheet(list(rows.items()), drawn)
        with Image.open(drawn) as picture:
            picture.save(path, quality=80)
        return self._url("image/webp", path)

    def _url(self, kind: str, path: Path) -> str:
        """data: URL of a file, which is removed; empty if there is no room for it."""
        data = path.read_bytes()
        path.unlink()
        if len(data) > self._left:
            self._left = 0
            return ""
        self._left -= len(data)
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    def _recorded(self, clip: TestClip, count: int | None) -> Frames | None:
        path = self._work / f"recorded{suffix_of(clip.recorded.path)}"
        try:
            bring(self._store, clip.recorded, path)
            return small_frames(path, clip, clip.recorded.starts[0], count)
        except (ArtifactCorrupt, ObjectNotFound, ClipRejected) as error:
            log.warning("%s has no picture: %s", clip.recorded.path, error)
            return None
        finally:
            path.unlink(missing_ok=True)

    def _video(self, clip: TestClip, video: Video, count: int | None) -> Frames | None:
        assert video.video is not None
        path = self._work / "video.mp4"
        try:
            self._bring(video.video, path)
            return small_frames(path, clip, count=count)
        except (ArtifactCorrupt, ObjectNotFound, ClipRejected) as error:
            log.warning("%s of %s has no picture: %s", clip.id, video.candidate, error)
            return None
        finally:
            path.unlink(missing_ok=True)

    def _bring(self, file: Stored, path: Path) -> None:
        store, (_, key) = self._store.for_uri(file.uri), self._store.parse(file.uri)
        store.download(key, path, sha256=file.sha256, bytes=file.bytes)


def small_frames(path: Path, clip: TestClip, start: int = 0, count: int | None = None) -> Frames:
    """Frames of a video at the clip's rate, as many as there are, cut as the clip is and small:
    uint8 [F, H, W, 3]. `count`: at most so many of them, at equal times. Raises ClipRejected."""
    scale = min(1.0, SIDE / max(clip.size.width, clip.size.height))
    sides = clip.size.width, clip.size.height
    width, height = (max(2, round(side * scale / 2) * 2) for side in sides)
    wanted = set(np.linspace(0, clip.frames - 1, count or clip.frames).round().astype(int))
    facts = Facts()
    display = Display(facts, 2 * SIDE)  # twice as fine, before the cut
    frames = []
    with as_verdict(path, facts):
        timed = islice(timeline(path, clip.fps, facts), start, start + clip.frames)
        for index, frame in enumerate(timed):
            if index in wanted:
                display.measure(frame)
                frames.append(fit(display.pixels(frame), width, height, facts.pixel_aspect))
    if not frames:
        raise undecodable(facts)
    return np.stack(frames)
