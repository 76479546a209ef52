"""Tar shards as WebDataset writes them: `<key>.mp4` with `<key>.txt` or `<key>.json`.

Only the headers and captions of a shard are read here, by ranges; a clip is fetched from its place
in the shard when it is needed. Nothing is ever unpacked under a name from the archive.
"""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from wan_runtime.contract.dataset import Columns
from wan_runtime.data.dataset import Code
from wan_runtime.data.formats.inventory import not_found
from wan_runtime.data.formats.json_text import load_json
from wan_runtime.data.formats.left_out import named, notes_on
from wan_runtime.data.formats.metadata import require
from wan_runtime.data.formats.rows import Fault, Listing, Row, make_row
from wan_runtime.data.formats.suffixes import is_junk, is_listed, is_video
from wan_runtime.data.formats.text import MAX_BYTES, decode, invalid, keys_of
from wan_runtime.data.source import Found, Place, Source, counted, path_fault
from wan_runtime.errors import InputError
from wan_runtime.threads import in_order

CAPTIONS = ("txt", "caption")
DOTTED = (".txt", ".caption", ".json")
FIRST_DOT = "a key ends at the first dot of a name, so leave only the dot of the suffix"
PACKED = "compressed, and clips are read from their place in a shard: unpack it to a plain .tar"
GZIP = b"\x1f\x8b"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
THREADS = 4
"""Shards whose headers are read at a time."""
READ_AHEAD = 64 * 2**10
"""Bytes: a caption that follows its clip comes with the clip's header."""


@dataclass(slots=True)
class _Sample:
    """The members of one key."""

    key: str
    video: Place | None = None
    caption: str | None = None
    record: dict[str, Any] | None = None
    others: list[str] = field(default_factory=list)
    """Members of other kinds, by suffix."""
    fault: Fault | None = None
    """Fault of a member that cannot be read."""


def read(source: Source, columns: Columns) -> Listing:
    """One row for each video of all shards, in their order. Of `columns`, those of JSON members."""
    paths = {found.path: found for found in source.files() if is_listed(found.path)}
    shards = [found for path, found in paths.items() if path.lower().endswith(".tar")]
    if packed := [path for path in paths if path.lower().endswith(COMPRESSED)]:
        raise invalid(packed[0], f"is {PACKED}")
    if not shards:
        raise not_found(source, "*.tar", "WebDataset")
    samples: list[_Sample] = []
    for some in in_order(lambda shard: _samples(source, shard), shards, threads=THREADS):
        samples += some
    clips = [sample for sample in samples if sample.video is not None]
    name = counted(len(shards), "shard")
    _refuse_other_keys(name, clips, columns)
    rows = tuple(_row(number, sample, columns) for number, sample in enumerate(clips, 1))
    files = [shard.path for shard in shards]
    notes = [*_notes(samples, columns), *notes_on(paths, set(files), ())]
    return Listing(name, rows, tuple(files), tuple(notes))


def _refuse_other_keys(name: str, clips: Sequence[_Sample], columns: Columns) -> None:
    """Raises InputError(DATASET_INVALID) if no clip has a caption, and JSON members have others."""
    keys = list(dict.fromkeys(key for clip in clips for key in clip.record or {}))
    if keys and not any(clip.caption is not None for clip in clips):
        require(f"the .json of {name}", {"prompt": columns.prompt}, keys)


def _row(number: int, sample: _Sample, columns: Columns) -> Row:
    assert sample.video is not None, "only clips are rows"
    record = sample.record or {}
    if sample.caption is not None:
        record = record | {columns.prompt: sample.caption}
    row = make_row(number, sample.key, record, columns, video=sample.video)
    if sample.fault is not None:
        return replace(row, fault=sample.fault)
    if row.prompt or row.fault is not None:
        return row
    if sample.caption is not None:
        lack = "its .txt is empty"
    elif dotted := next((each for each in sample.others if each.endswith(DOTTED)), None):
        lack = f"{sample.key}.{dotted} is not of its key: {FIRST_DOT}"
    elif sample.record is None:
        lack = f"beside it are {', '.join(sample.others) or 'neither .txt nor .json'}"
    else:
        lack = f"of its .json, {columns.prompt} is empty or not there"
    return replace(row, fault=Fault(Code.CAPTION_EMPTY, f"has no caption: {lack}"))


def _notes(samples: Sequence[_Sample], columns: Columns) -> list[str]:
    notes = []
    if without := [sample.key for sample in samples if sample.video is None]:
        notes.append(f"left out: samples without a video ({len(without)}): {named(without)}")
    kinds = Counter(kind for sample in samples for kind in sample.others)
    if kinds:
        said = ", ".join(f"{count} .{kind}" for kind, count in kinds.most_common(5))
        notes.append(f"left out: members of other kinds: {said}")
    unread = {key for sample in samples for key in sample.record or {}}
    unread -= set(columns.model_dump().values())
    if unread:
        notes.append(f"of their .json these keys are not read: {keys_of(sorted(unread))}")
    return notes


def _samples(source: Source, shard: Found) -> list[_Sample]:
    """The samples of one shard, in the order in which their keys appear."""
    samples: dict[str, _Sample] = {}
    file = _buffered(source, shard)
    if file.peek(2)[:2] == GZIP:
        raise invalid(shard.path, f"is {PACKED}")
    at = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                _take(archive, member, shard.path, samples)
                at = archive.offset
            # tarfile takes a damaged header for the end, and what follows would be lost in silence.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError
            while rest := file.read(READ_AHEAD):
                if rest.strip(b"\0"):
                    raise invalid(
                        shard.path, "goes on after its end, as archives joined by cat do: give "
                        "each of them as a file of its own"
                    )  # fmt: skip
    except tarfile.TarError as error:
        said = f"is no whole tar archive: after byte {at} it is cut off or damaged"
        raise invalid(shard.path, said) from error
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
    if is_junk(member.name):
        return
    folder, slash, base = member.name.rpartition("/")
    stem, _, kind = base.partition(".")
    key, kind = f"{folder}{slash}{stem}", kind.lower()
    sample = samples.setdefault(key, _Sample(f"{shard}/{key}"))
    if is_video(base):
        if sample.video is not None:
            why = f": {FIRST_DOT}" if "." in kind else ""
            raise invalid(shard, f"holds two videos of the key {key!r}{why}")
        sample.video = Place(name, shard, member.offset_data, member.size)
    elif kind in CAPTIONS or kind == "json":
        if (sample.caption if kind in CAPTIONS else sample.record) is not None:
            raise invalid(shard, f"holds two captions of the key {key!r}")
        content = archive.extractfile(member)
        assert content is not None, "a plain file has content"
        try:
            _describe(sample, name, kind, member.size, content)
        except InputError as error:
            sample.fault = Fault(Code.CAPTION_INVALID, f"its caption {error.message}")
    else:
        sample.others.append(kind)


def _describe(sample: _Sample, name: str, kind: str, size: int, content: IO[bytes]) -> None:
    """Takes the caption or record of a sample. Raises InputError(DATASET_INVALID)."""
    if size > MAX_BYTES:
        raise invalid(name, f"has {size} bytes; at most {MAX_BYTES} are read")
    text = decode(name, content.read())
    if kind in CAPTIONS:
        sample.caption = text.strip()
    else:
        sample.record = _record(name, text)


def _record(name: str, text: str) -> dict[str, Any]:
    record = load_json(name, text)
    if not isinstance(record, dict):
        raise invalid(name, "is not an object of names and values")
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
