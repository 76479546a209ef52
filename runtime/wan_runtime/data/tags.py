"""What a file says of its video beside the pictures: colours, the shown part, pauses, layers."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any, BinaryIO

import av

from wan_runtime.data.display import IPT, UNSPECIFIED, has_dolby_vision
from wan_runtime.data.filters import Chain, form_of
from wan_runtime.data.frames import Displayed

STATING = ("mov", "matroska")
"""Containers that state colours, and which part is shown."""
BT470BG = 5
"""The matrix of VP8 (RFC 6386, section 9.2) and JPEG (ISO/IEC 10918-5, section 7), as ITU-T H.273
counts."""
DOLBY_VISION = ("hevc", "av1", "libdav1d")
"""Decoders of codecs that may hold it."""
JPEG = ("mjpeg", "mjpegb")
SILENT = ("vp8", *JPEG)
"""Codecs that say nothing of the matrix: FFmpeg's decoders name BT470BG."""
TRACK = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae")
"""Elements of Matroska, each in the one before: segment, tracks, a track."""
LAYER = (b"\x41\xe4", b"\x41\xed")
"""In that one, what is mapped beside its pictures, and the record of Dolby Vision in it."""
VIDEO = b"\xe0"
EDGES = (b"\x54\xcc", b"\x54\xdd", b"\x54\xbb", b"\x54\xaa")
"""In a video, pixels to cut off at the left, the right, the top and the bottom."""
ALPHA_OF_HEVC = b"\x4e\x01\xa5"
"""Begins the message of HEVC that a second layer is transparency: its NAL unit, and the kind by
ITU-T H.265, F.14.2.8."""

Track = dict[bytes, bytes]
"""Content of the boxes of an MP4's track, by name, and of the movie's header."""


@dataclass(frozen=True, slots=True)
class Colours:
    """What a container states, as ITU-T H.273 counts, and PyAV the range."""

    matrix: int
    range: int
    primaries: int
    transfer: int
    of_all: bool = False
    """They hold for frames with data of Dolby Vision too, which are left aside."""


def stated(stream: Any) -> Colours | None:
    """The colours that a container states of a stream of which nothing was decoded yet."""
    if not stream.container.format.name.startswith(STATING):
        return None
    context = stream.codec_context
    base = _has_base(stream) if context.name in DOLBY_VISION else None
    if base is False:
        return Colours(IPT, 0, UNSPECIFIED, UNSPECIFIED, of_all=True)
    if context.colorspace == UNSPECIFIED:
        return None
    return Colours(
        context.colorspace,
        context.color_range,
        context.color_primaries,
        context.color_trc,
        of_all=base is True,
    )


def complete(frame: Any, codec: str, colours: Colours | None) -> None:
    """Give a decoded frame the colours of its container, where its codec says nothing.

    FFmpeg's decoders of VP9, HEVC and ProRes forget them then. Those of VP8 and Motion JPEG name
    the matrix of the specification, though files are made by others; JPEG does say its range."""
    if codec in SILENT:
        frame.colorspace = UNSPECIFIED if colours else BT470BG
    if not colours or frame.colorspace != UNSPECIFIED:
        return
    if has_dolby_vision(frame) and not colours.of_all:
        return
    frame.colorspace = colours.matrix
    if codec not in JPEG:
        frame.color_range = colours.range or frame.color_range
    if frame.color_primaries == UNSPECIFIED:
        frame.color_primaries = colours.primaries
    if frame.color_trc == UNSPECIFIED:
        frame.color_trc = colours.transfer


def cropping(stream: Any, track: Track) -> tuple[int, int, int, int] | None:
    """Pixels that the container cuts off at the left, the right, the top and the bottom: `clap` of
    MP4, PixelCrop of Matroska. None for nothing. PyAV does not tell it.

    Args:
        track: that of the stream, by `track_of`.
    """
    if track:
        edges = _aperture(track)
    elif stream.container.format.name.startswith("matroska"):
        edges = _pixel_crop(stream)
    else:
        return None
    return edges if any(edges) else None


def cropped(
    displayed: Iterator[Displayed[Any]], edges: tuple[int, int, int, int]
) -> Iterator[Displayed[Any]]:
    """The part that is shown, of whole chroma samples: as FFmpeg's program."""
    left, right, top, bottom = edges
    chain: Chain | None = None
    like: tuple[object, ...] = ()
    for now in displayed:
        frame = now.frame
        form = form_of(frame)
        if chain is None or form != like:
            size = f"iw-{left + right}:ih-{top + bottom}:{left}:{top}"
            chain, like = Chain(frame, ("crop", size)), form
        chain.push(frame)
        yield Displayed(now.time, now.duration, next(chain.ready()))


def is_layered(packet: Any, extradata: bytes | None) -> bool:
    """Whether the parameters of HEVC say that a second layer is transparency."""
    own = extradata or b""
    if ALPHA_OF_HEVC in own:
        return True
    data = bytes(packet)
    if not own.startswith(b"\1"):  # parts begin with a code, else with their size
        return b"\0\0\1" + ALPHA_OF_HEVC in data
    wide, at = (int.from_bytes(own[21:22]) & 3) + 1, 0
    while at < len(data):
        at += wide
        if data.startswith(ALPHA_OF_HEVC, at):
            return True
        at += int.from_bytes(data[at - wide : at])
    return False


def _has_base(stream: Any) -> bool | None:
    """Whether the record of Dolby Vision names a system that shows the base: HDR10, SDR or HLG.

    By Dolby Vision Streams within the ISO Base Media File Format, section 3.2,
    `dv_bl_signal_compatibility_id`: 1 of profile 8.1, 4 of 8.4, 0 of 5. None without a record."""
    mapped = dict(_elements(_header(stream).get(LAYER[0], b"")))
    record = mapped.get(LAYER[1], b"")
    return record[4] >> 4 != 0 if len(record) > 4 else None


def _pixel_crop(stream: Any) -> tuple[int, int, int, int]:
    found = dict(_elements(_header(stream).get(VIDEO, b"")))
    left, right, top, bottom = (int.from_bytes(found.get(name, b"")) for name in EDGES)
    return left, right, top, bottom


def _header(stream: Any) -> dict[bytes, bytes]:
    """Elements of the track in the header of a copy of the stream, which has but few."""
    copy = io.BytesIO()
    try:
        with av.open(copy, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, ValueError):  # a codec that is read only
        return {}
    track = copy.getvalue()
    for name in TRACK:
        track = dict(_elements(track)).get(name, b"")
    return dict(_elements(track))


def _aperture(track: Track) -> tuple[int, int, int, int]:
    """Edges by the clean aperture: its size, and how far its centre is from the picture's. One that
    the picture does not hold counts for nothing, as in FFmpeg."""
    for name in (b"mdia", b"minf", b"stbl"):
        track = dict(boxes(track.get(name, b"")))
    entry = next(boxes(track.get(b"stsd", b"")[8:]), (b"", b""))[1]
    stated = dict(boxes(entry[78:])).get(b"clap", b"")
    if len(stated) < 32:
        return 0, 0, 0, 0
    numbers = struct.unpack(">8i", stated[:32])
    if min(numbers[0], numbers[2], *numbers[1::2]) <= 0:
        return 0, 0, 0, 0
    wide, high, right, down = (Fraction(*numbers[at : at + 2]) for at in (0, 2, 4, 6))
    edges: list[int] = []
    for size, kept, off in zip(struct.unpack(">2H", entry[24:28]), (wide, high), (right, down),
                               strict=True):  # fmt: skip
        first = (size - kept) / 2 + off
        edges += [floor(first), size - 1 - floor(first + kept - 1)]
    return (edges[0], edges[1], edges[2], edges[3]) if min(edges) >= 0 else (0, 0, 0, 0)


def track_of(path: Path, stream: Any) -> Track:
    """Boxes of the stream's track in an MP4, and `mvhd`; of other containers none."""
    if not stream.container.format.name.startswith("mov"):
        return {}
    head = b""
    with path.open("rb") as file:
        for name, content in boxes(_movie(file)):
            if name == b"mvhd":
                head = content
            track = dict(boxes(content)) if name == b"trak" else {}
            own = track.get(b"tkhd", b"")
            if own and after_times(own) == stream.id:
                return track | {b"mvhd": head}
    return {}


def after_times(box: bytes) -> int:
    """The number after the times of `mvhd` or `tkhd`: ticks of a second, or the track's."""
    at = 20 if box[:1] == b"\1" else 12  # after times of 64 bits, or 32
    return int.from_bytes(box[at : at + 4])


def _movie(file: BinaryIO) -> bytes:
    """Content of the box `moov`, by ISO/IEC 14496-12; nothing where there is none."""
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[:4])
        if size == 1:
            size = int.from_bytes(file.read(8)) - 8
        if head[4:] == b"moov":
            return file.read(size - 8 if size else -1)
        if size < 8:
            break
        file.seek(size - 8, io.SEEK_CUR)
    return b""


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of boxes in a row."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4]) or len(data) - at
        if size < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _elements(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of elements in a row, by RFC 8794."""
    at = 0
    while at < len(data):
        wide = 9 - data[at].bit_length()
        name, at = data[at : at + wide], at + wide
        wide = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + wide]) & ((1 << 7 * wide) - 1)
        at += wide
        yield name, data[at : at + size]
        at += size
