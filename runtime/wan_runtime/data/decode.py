"""Which frames of a file a player shows, and when."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import av
from av.codec.context import Flags as CodecFlags
from av.container import Flags as ContainerFlags
from av.format import Flags
from av.stream import Disposition
from PIL import Image

from wan_runtime import heartbeat
from wan_runtime.data.dataset import Code
from wan_runtime.data.display import display_matrix
from wan_runtime.data.edits import edited, several, tick_of
from wan_runtime.data.facts import ClipRejected, Facts
from wan_runtime.data.filters import Chain, form_of
from wan_runtime.data.frames import Displayed, exact_rate, resample
from wan_runtime.data.gif import without_background
from wan_runtime.data.signatures import HEAD, kind_of
from wan_runtime.data.tags import (
    complete,
    cropped,
    cropping,
    is_layered,
    stated,
    track_of,
)

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,gif,asf,ogg"
"""Containers that are opened. Not playlists: they make FFmpeg open other files."""
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
GIVEN = "MP4, MOV, MKV, WebM, AVI, MPEG, WMV, FLV, GIF"
MAX_PIXELS = 2**26
"""Pixels of a frame, at most: a file of a few bytes may declare any size."""
AHEAD, BEHIND = Fraction(10), Fraction(1, 10)
"""Seconds. A broadcast whose clock leaps further goes on as if it had not, as in FFmpeg."""
HURRIED, CALM = Fraction(1, 100), Fraction(1, 10)
"""Seconds. A frame of a GIF that asks for the first or less is shown for the second: tools wrote 0
and 1 for "as fast as it goes", and all browsers and viewers read it so."""
NO_VIDEO = (
    Disposition.attached_pic
    | Disposition.timed_thumbnails
    | Disposition.still_image
    | Disposition.dependent
)
"""Kinds of video stream that are pictures: covers, previews, tiles."""
STILL_BRANDS = {"avif", "heic", "heix", "heim", "heis", "mif1"}
"""Major brands of files that are built like MP4 and hold pictures."""
ANIMATED_BRANDS = {"avis": "AVIF", "hevc": "HEIC", "hevx": "HEIC", "msf1": "HEIF"}
"""Brands of pictures that move: FFmpeg shows the first of them, and no transparency."""
PICTURES = {"PNG", "JPEG", "WEBP", "BMP", "TIFF", "HEIC", "AVIF", "JPEG XL", "JPEG 2000", "SVG"}
FIELDS_OF_HEVC = (
    "is interlaced HEVC, whose fields are each a picture of its own, which is not read: "
    "deinterlace it, or convert it to H.264"
)
ANIMATED = "is an animated {}, which is not read: convert it to MP4 or GIF"
A_PICTURE = "image-to-video needs clips of at least 5 frames"


def timeline(path: Path, fps: float, facts: Facts, *, whole: bool = True) -> Iterator[Any]:
    """Frames of a video at a rate, as `resample` picks them: av.VideoFrame.

    `whole`: interlaced ones are made whole; it takes time, and who counts does not need it. Raises
    ClipRejected; av.FFmpegError and Damaged, of which `as_verdict` makes it.
    """
    with _opened(path, facts) as (container, stream):
        track = track_of(path, stream)
        rate = _rate(stream) or exact_rate(fps)
        clock = stream.time_base or 1 / rate
        if parts := several(track, stream, facts):
            clock = max(clock, tick_of(track))
            source = partial(_unedited, path, stream.index, facts, whole)
            displayed = edited(parts, source, clock / 2, facts)
        else:
            displayed = _displayed(container, stream, facts)
            if whole:
                displayed = _deinterlaced(displayed, facts)
        tolerance = min(clock, 1 / (4 * rate))
        edges = cropping(stream, track)
        if edges is not None:
            displayed = cropped(displayed, edges)
        yield from resample(displayed, exact_rate(fps), tolerance)
    if parts:  # the container says it for other frames
        facts.declared = 0


def undecodable(facts: Facts) -> ClipRejected:
    """The verdict on a clip of which no further frame can be had."""
    of = f" of {facts.declared}" if facts.declared else ""
    return ClipRejected(Code.UNDECODABLE, f"does not decode after frame {facts.decoded}{of}", facts)


def suffix_of(path: str) -> str:
    """What FFmpeg knows some formats by, and by which a copy is named; longer ones are no format's,
    and may be too long for a file's name."""
    return PurePosixPath(path).suffix[:16]


class Damaged(Exception):
    """Data that is cut off, or a frame that the decoder painted over and calls a frame."""


@contextmanager
def as_verdict(path: Path, facts: Facts) -> Iterator[None]:
    """What FFmpeg makes of a file becomes ClipRejected."""
    try:
        yield
    except (av.FFmpegError, Damaged) as error:
        if facts.decoded or isinstance(error, Damaged):
            raise undecodable(facts) from error
        raise ClipRejected(Code.UNREADABLE, _closed(path, error), facts) from error


@contextmanager
def _opened(path: Path, facts: Facts) -> Iterator[tuple[Any, Any]]:
    if path.stat().st_size == 0:
        raise ClipRejected(Code.UNREADABLE, "is empty", facts)
    with _container(path) as container:
        stream = _chosen(container, facts)
        facts.fps = round(float(_rate(stream) or 0), 3)
        if stream.duration is not None and stream.time_base is not None:
            slower = CALM / HURRIED if _is_hurried(stream) else 1
            facts.duration = round(float(stream.duration * stream.time_base * slower), 3)
        elif container.duration is not None:
            facts.duration = round(container.duration / av.time_base, 3)
        facts.stored_aspect = float(stream.sample_aspect_ratio or 1)
        try:
            yield container, stream
        except Exception:
            facts.declared = _declared(stream)
            raise
        else:  # not where a reader has enough: an index may be long
            facts.declared = _declared(stream)


@contextmanager
def _container(path: Path, **options: str) -> Iterator[Any]:
    source: Any = str(path)
    with path.open("rb") as file:
        if kind_of(file.read(HEAD)) == "GIF":
            file.seek(0)
            source = io.BytesIO(without_background(file.read()))
    # Titles are in any encoding, and none is read.
    with av.open(source, options=OPTIONS | options, metadata_errors="ignore") as container:
        # PyAV has times made up where there are none: wrong ones for AVI with B-frames.
        container.flags &= ~ContainerFlags.gen_pts.value
        yield container


def _chosen(container: Any, facts: Facts) -> Any:
    """The video stream that a player takes: the first of those marked as default."""

    def rejected(text: str) -> ClipRejected:
        return ClipRejected(Code.UNREADABLE, text, facts)

    brand = container.metadata.get("major_brand")
    if brand in STILL_BRANDS:
        raise rejected(f"is a picture: {A_PICTURE}")
    if brand in ANIMATED_BRANDS:
        raise rejected(ANIMATED.format(ANIMATED_BRANDS[brand]))
    if not container.streams.video:
        raise rejected("holds no video stream")
    videos = [each for each in container.streams.video if not each.disposition & NO_VIDEO]
    if not videos:
        raise rejected(f"holds a cover picture and no video: {A_PICTURE}")
    stream = next((each for each in videos if each.disposition & Disposition.default), videos[0])
    if stream.codec_context is None:
        raise rejected("is of a codec that is not known here: convert it to H.264 in MP4")
    return stream


def _rate(stream: Any) -> Fraction | None:
    rate: Fraction | None = stream.average_rate or stream.guessed_rate
    return 1 / CALM if _is_hurried(stream) else rate


def _is_hurried(stream: Any) -> bool:
    """Whether all frames of a GIF are."""
    rate = stream.average_rate
    return bool(stream.container.format.name == "gif" and rate and 1 / rate <= HURRIED)


def _declared(stream: Any) -> int:
    # An edit list shows less than the file holds, and AVI counts frames that it leaves out.
    index, stored = stream.index_entries, int(stream.frames)
    if not (index and stored):
        return stored
    return sum(not each.is_discard and each.size > 0 for each in index)


def _decoder(stream: Any) -> Any:
    """FFmpeg's own, or where it leaves transparency away the codec's reference."""
    decoder = stream.codec_context
    other = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(decoder.name)
    # In capitals where a file was copied from one container to another.
    alpha = {name.lower(): value for name, value in stream.metadata.items()}.get("alpha_mode")
    if other and alpha == "1":
        decoder = av.CodecContext.create(other, "r")
        decoder.extradata = stream.codec_context.extradata
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    decoder.flags |= CodecFlags.unaligned.value  # else up to 31 columns of what is cropped stay
    decoder.thread_count = 1  # clips are decoded side by side instead
    return decoder


def _unedited(path: Path, index: int, facts: Facts, whole: bool) -> Iterator[Displayed[Any]]:
    """All frames of a stream of an MP4, by the times of its track."""
    with _container(path, ignore_editlist="1") as container:
        displayed = _displayed(container, container.streams[index], facts, Fraction(0))
        yield from _deinterlaced(displayed, facts) if whole else displayed


def _displayed(
    container: Any, stream: Any, facts: Facts, start: Fraction | None = None
) -> Iterator[Displayed[Any]]:
    """`start`: what times count from; None: the first frame."""
    rate = _rate(stream)
    usual = 1 / rate if rate else Fraction(0)
    broadcast = bool(container.format.flags & Flags.ts_discont.value)
    is_gif = container.format.name == "gif"
    following = Fraction(0)
    own, colours, decoder = stream.codec_context, stated(stream), _decoder(stream)
    last: Any = None
    for packet in container.demux(stream):
        heartbeat.beat()
        if packet.is_corrupt and not broadcast:  # cut off; some decoders show what memory held
            raise Damaged
        if decoder.name == "hevc" and packet.is_keyframe:
            _check_layers(packet, decoder, facts)
        if decoder is not own and facts.display_matrix is None and not facts.decoded:
            for frame in own.decode(packet):
                facts.display_matrix = display_matrix(frame)
        if decoder.name == "theora" and not packet.size and packet.pts is not None and last:
            # Its way to show a frame once more. The last packet of all has no time.
            yield Displayed(following, usual, last)
            following += usual
            continue
        for frame in decoder.decode(packet):
            if frame.is_corrupt:
                raise Damaged
            facts.decoded += 1
            if decoder.name == "hevc" and frame.interlaced_frame:
                raise ClipRejected(Code.UNDECODABLE, FIELDS_OF_HEVC, facts)
            complete(frame, own.name, colours)
            if broadcast:  # other containers say it for all frames
                _check_shape(decoder, facts)
            clock = frame.time_base or Fraction(0)
            duration = max(frame.duration, 0) * clock or usual
            if is_gif and duration <= HURRIED:
                duration = CALM
            time = following
            ticks = frame.dts if frame.pts is None else frame.pts
            if ticks is not None and clock and not is_gif:  # whose times are sums of durations
                stamp = ticks * clock
                leap = 0 if start is None else stamp - start - following
                if start is None or (broadcast and not -BEHIND <= leap <= AHEAD):
                    start = stamp - following
                time = stamp - start
            following = time + duration
            last = frame
            yield Displayed(time, duration, frame)


def _check_layers(packet: Any, decoder: Any, facts: Facts) -> None:
    if is_layered(packet, decoder.extradata):
        raise ClipRejected(
            Code.UNDECODABLE,
            "is transparent by a second layer of HEVC, which is not read: convert it to ProRes "
            "4444, or lay it over a background",
            facts,
        )


def _check_shape(decoder: Any, facts: Facts) -> None:
    # PyAV gives a decoder's shape of pixels, not a frame's: which frames have another is not known.
    if float(decoder.sample_aspect_ratio or 1) != facts.stored_aspect:
        raise ClipRejected(
            Code.UNDECODABLE,
            f"changes the shape of its pixels about frame {facts.decoded}: cut it there",
            facts,
        )


def _deinterlaced(displayed: Iterator[Displayed[Any]], facts: Facts) -> Iterator[Displayed[Any]]:
    """One whole frame for each, at the time of its first field.

    From the first interlaced frame on: bwdif looks at the frames around, and leaves those alone
    that are not flagged.
    """
    chain: Chain | None = None
    like: tuple[object, ...] = ()
    waiting: deque[Displayed[Any]] = deque()

    def ready(last: bool = False) -> Iterator[Displayed[Any]]:
        if chain is None:
            return
        if last:
            chain.push(None)
        for frame in chain.ready():
            now = waiting.popleft()
            yield Displayed(now.time, now.duration, frame)

    for now in displayed:
        frame = now.frame
        facts.interlaced |= frame.interlaced_frame
        if chain is None and not frame.interlaced_frame:
            yield now
            continue
        form = form_of(frame)
        if chain is None or form != like:
            yield from ready(last=True)
            chain = Chain(frame, ("bwdif", "mode=send_frame:deint=interlaced"))
            like = form
        waiting.append(now)
        chain.push(frame)
        yield from ready()
    yield from ready(last=True)


def _closed(path: Path, error: av.FFmpegError) -> str:
    """What is to say of a file that does not open."""
    with path.open("rb") as file:
        kind = kind_of(file.read(HEAD))
    if kind in PICTURES:
        if _moves(path):
            return ANIMATED.format(kind)
        return f"is a picture ({kind}): {A_PICTURE}"
    cause = error.strerror
    if kind not in (None, "a video", "GIF"):
        cause = f"it is {kind}"
    elif isinstance(error, av.InvalidDataError | av.EOFError):
        cause = "it is damaged, cut off, or none"
    elif isinstance(error, av.ArgumentError):  # as FFmpeg calls what is not in FORMATS
        cause = f"its kind is not read; make it one of {GIVEN}"
    return f"does not open as a video: {cause}"


def _moves(path: Path) -> bool:
    try:
        with Image.open(path, formats=("PNG", "WEBP")) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # Pillow's readers raise anything
        return False
