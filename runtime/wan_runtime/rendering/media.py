"""Videos and contact sheets for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wan_runtime.threads import cores, in_order

# Shapes: F frames, H W pixels; colours last.

Frames = NDArray[np.uint8]
"""[F, H, W, 3]."""
Pixels = NDArray[np.float32]
"""[F, H, W, 3] in [-1, 1], as the VAE gave them."""
COLUMNS = 5
TILE = 320
"""Pixels of a picture's longer side, at most."""
LABEL_WIDTH = 96
GAP = 4

MATRIX = 1
"""BT.709, as ITU-T H.273 numbers it."""
EXACT = (
    Interpolation.AREA
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
"""A chroma sample is the mean of its four pixels, rounded; FFmpeg's default is a sixth of a level
too low."""
CRF = 12
SEGMENT = 16
"""Frames that one encoder makes, the first of which can be decoded alone: several work at once."""
SHORTEST = 3
"""Frames of the last segment, at least: fewer are not reordered, and the gap that this leaves
between decoding times would have players count fewer frames a second."""
ENCODING = {
    "preset": "medium",
    # Where EXACT puts chroma, and where browsers take it from.
    "chroma_sample_location": "center",
    # What x264 writes depends on how many there are, so it is one number on any number of cores.
    "threads": "3",
    # PyAV asks for slices, which cost bytes.
    "thread_type": "frame",
    # With AVX-512, x264's macroblock tree reads memory that nothing has written: equal frames then
    # gave several files.
    "mbtree": "0",
}


def quantize(pixels: Pixels) -> Frames:
    """[-1, 1] to uint8."""
    return ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def write_mp4(
    frames_FHWC: Frames,
    path: Path,
    fps: float,
    metadata: Mapping[str, str] | None = None,
    *,
    crf: int = CRF,
) -> None:
    """H.264, yuv420p, index in front: plays in every browser while it loads. Height and width must
    be even. `metadata`: of the names that MP4 has, such as `comment`. `crf`: quality of x264, from
    0 to 51; less is better.

    Colours are converted by ITU-R BT.709 in limited range, and the stream and the container say so:
    without a tag, players guess the matrix by the height. Equal frames are equal bytes.
    """
    rate = Fraction(fps).limit_denominator(1000)
    starts = range(0, max(1, len(frames_FHWC) - SHORTEST + 1), SEGMENT)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream("libx264", rate=rate)
        _prepare(stream.codec_context, frames_FHWC, rate, crf)

        def segment(start: int) -> list[av.Packet]:
            codec = stream.codec_context
            if start:
                made = av.CodecContext.create("libx264", "w")
                assert isinstance(made, av.VideoCodecContext)
                codec = made
                _prepare(codec, frames_FHWC, rate, crf)
            end = None if start == starts[-1] else start + SEGMENT
            return list(_encoded(codec, frames_FHWC[start:end], start, 1 / rate))

        for packets in in_order(segment, starts, threads=min(len(starts), len(cores()))):
            for packet in packets:
                packet.stream = stream
                container.mux(packet)


def _prepare(codec: av.VideoCodecContext, frames_FHWC: Frames, rate: Fraction, crf: int) -> None:
    """Have an encoder make a part of the video that goes with all other parts."""
    codec.height, codec.width = frames_FHWC.shape[1:3]
    codec.pix_fmt, codec.time_base, codec.framerate = "yuv420p", 1 / rate, rate
    codec.colorspace = MATRIX
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
    codec.color_range = ColorRange.MPEG
    codec.options = {**ENCODING, "crf": str(crf)}
    codec.flags |= Flags.global_header


def _encoded(
    codec: av.VideoCodecContext, frames_FHWC: Frames, start: int, time_base: Fraction
) -> Iterator[av.Packet]:
    """Packets of a part of the video that begins at frame `start`."""
    for number, pixels in enumerate(frames_FHWC, start):
        frame = _yuv(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        frame.pts, frame.time_base = number, time_base
        yield from codec.encode(frame)
    yield from codec.encode()


def _yuv(frame: av.VideoFrame) -> av.VideoFrame:
    return frame.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=EXACT,
        threads=1,
    )


def contact_sheet(rows: Sequence[tuple[str, Frames]], path: Path) -> None:
    """PNG: one row of frames at equal times for each (label, video)."""
    tiles = [_tile(frames) for _, frames in rows]
    across, down = max(width for width, _ in tiles) + GAP, sum(height + GAP for _, height in tiles)
    sheet = Image.new("RGB", (LABEL_WIDTH + COLUMNS * across, down + GAP), (24, 26, 30))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    top = GAP
    for (label, frames), tile in zip(rows, tiles, strict=True):
        draw.text((8, top + tile[1] // 2), label, fill=(235, 235, 235), font=font, anchor="lm")
        for column, index in enumerate(
            np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)
        ):
            picture = Image.fromarray(frames[index]).resize(tile, Image.Resampling.LANCZOS)
            sheet.paste(picture, (LABEL_WIDTH + column * across, top))
        top += tile[1] + GAP
    sheet.save(path)


def _tile(frames: Frames) -> tuple[int, int]:
    """Width and height of a picture on the sheet."""
    height, width = frames.shape[1:3]
    scale = min(1.0, TILE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
