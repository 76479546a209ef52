"""Tar shards as WebDataset writes them: `<key>.mp4` with `<key>.txt` or `<key>.json`.

Only the headers and captions of a shard are read here, by ranges; a clip is fetched from its place
in the shard when it is needed. Nothing is ever unpacked under a name from the archive.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from dataclasses import dataclass, field
from typing import Any

from wan_runtime.data.formats.rows import (
    MAX_BYTES,
    Listing,
    Row,
    decode,
    invalid,
    is_video,
    not_found,
    plain,
)
from wan_runtime.data.source import Found, Place, Source, path_fault
from wan_runtime.job import Columns
from wan_runtime.parallel import in_order

log = logging.getLogger(__name__)

THREADS = 4
"""Shards whose headers are read at a time."""
READ_AHEAD = 64 * 2**10
"""Bytes: a caption that follows its clip comes with the clip's header."""


@dataclass(slots=True)
class _Sample:
    """The members of one key."""

    key: str
    video: Place | None = None
    caption: str = ""
    record: dict[str, Any] = field(default_factory=dict)


def read(source: Source, columns: Columns) -> Listing:
    """One row for each video of all shards, in their order. Of `columns`, those of JSON members."""
    files = list(source.files())
    shards = [found for found in files if found.path.endswith(".tar")]
    if not shards:
        raise not_found(source, "*.tar (plain: members of a compressed shard have no place in it)")
    rows: list[Row] = []
    for samples in in_order(lambda shard: _samples(source, shard), shards, threads=THREADS):
        for sample in samples:
            if sample.video is None:
                log.warning("%s has no video and is left out", sample.key)
                continue
            record = sample.record
            rows.append(
                Row(
                    number=len(rows) + 1,
                    video=sample.video,
                    prompt=sample.caption or plain(record.get(columns.prompt)),
                    source=plain(record.get(columns.source)) or sample.video.path,
                    first_frame=plain(record.get(columns.first_frame)),
                    control_video=plain(record.get(columns.control_video)),
                    vace_video=plain(record.get(columns.vace_video)),
                )
            )
    name = f"{len(shards)} shards"
    return Listing(name, tuple(rows), tuple(shard.path for shard in shards))


def _samples(source: Source, shard: Found) -> list[_Sample]:
    """The samples of one shard, in the order in which their keys appear."""
    samples: dict[str, _Sample] = {}
    try:
        file = _buffered(source, shard)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                _take(archive, member, shard.path, samples)
            # tarfile takes a damaged header for the end, and what follows would be lost in silence.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no header and no end at byte {archive.offset}")
    except tarfile.TarError as error:
        raise invalid(shard.path, f"is no whole tar archive: {error}") from error
    return list(samples.values())


def _take(
    archive: tarfile.TarFile, member: tarfile.TarInfo, shard: str, samples: dict[str, _Sample]
) -> None:
    name = f"{shard}/{member.name}"
    if member.isdir():
        return
    if (fault := path_fault(member.name)) is not None:
        raise invalid(shard, f"holds {member.name!r}, which {fault}")
    if not member.isreg() or member.issparse():
        raise invalid(shard, f"holds {member.name!r}, which is no plain file")
    folder, slash, base = member.name.rpartition("/")
    stem, _, kind = base.partition(".")
    key = f"{folder}{slash}{stem}"
    sample = samples.setdefault(key, _Sample(f"{shard}/{key}"))
    if is_video(base):
        if sample.video is not None:
            raise invalid(shard, f"holds two videos of the key {key!r}")
        sample.video = Place(name, shard, member.offset_data, member.size)
    elif kind in ("txt", "json"):
        if member.size > MAX_BYTES:
            raise invalid(name, f"has {member.size} bytes; at most {MAX_BYTES} are read")
        content = archive.extractfile(member)
        assert content is not None, "a plain file has content"
        text = decode(name, content.read())
        if kind == "txt":
            sample.caption = text.strip()
        else:
            sample.record = _record(name, text)


def _record(name: str, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise invalid(name, f"line {error.lineno}: {error.msg}") from error
    if not isinstance(record, dict):
        raise invalid(name, "is not an object")
    return record


def _buffered(source: Source, shard: Found) -> io.BufferedReader:
    return io.BufferedReader(_Ranges(source, shard), READ_AHEAD)


class _Ranges(io.RawIOBase):
    """A file of the source, read by ranges wherever it is sought."""

    def __init__(self, source: Source, file: Found) -> None:
        self._source = source
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.bytes}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._file.bytes - self._at)
        if length <= 0:
            return 0
        data = self._source.read(self._file.path, self._at, length)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
