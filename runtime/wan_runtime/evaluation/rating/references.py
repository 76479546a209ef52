"""The recorded clips as videos of the candidates' size and length, to be judged unnamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.evaluation import REFERENCE
from wan_runtime.contract.job import JobSpec
from wan_runtime.data.pixels import first_frame_of, frames_of
from wan_runtime.evaluation.records import Stored, TestClip, Video
from wan_runtime.process.progress import Reporter
from wan_runtime.rendering.media import write_mp4

FOLDER = "references"
"""Folder below the step's output."""


def made(
    job: JobSpec, store: Store, clips: Sequence[TestClip], work: Path, report: Reporter
) -> list[Video]:
    """A video of each clip, made once and kept in the store. Raises InputError(CLIP_INVALID)."""
    (work / "clips").mkdir(parents=True, exist_ok=True)
    videos = []
    for done, clip in enumerate(clips):
        report.update(
            activity="preparing recorded clips", current=done, total=len(clips), unit="videos"
        )
        key = f"{job.output_prefix}/{FOLDER}/{_digest(clip)}.mp4"
        info = store.stat(key)
        if info is None or info.sha256 is None:
            info = store.put_file(key, _written(store, clip, work))
        assert info.sha256 is not None
        stored = Stored(uri=store.uri(key), sha256=info.sha256, bytes=info.bytes)
        videos.append(Video(clip=clip.id, candidate=REFERENCE, video=stored))
    return videos


def _written(store: Store, clip: TestClip, work: Path) -> Path:
    start = clip.recorded.starts[0]
    frames = frames_of(store, clip.recorded, clip.fps, work / "clips", start)
    # What the candidates start from: nothing of the first frame says which one is the recording.
    frames[0] = first_frame_of(store, clip.recorded, frames, work / "clips")
    path = work / "reference.mp4"
    write_mp4(frames, path, clip.fps)
    return path


def _digest(clip: TestClip) -> str:
    """SHA-256 of what the video is made from."""
    first = clip.recorded.first_frame
    parts = (
        clip.recorded.sha256,
        clip.recorded.starts[0],
        str(clip.recorded.size),
        clip.fps,
        None if first is None else first.sha256,
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
