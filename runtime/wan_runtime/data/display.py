"""Pixels of a decoded frame as a player shows them: upright, in BT.709, opaque."""

from __future__ import annotations

import math
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from wan_runtime.data import tone
from wan_runtime.data.dataset import Code
from wan_runtime.data.facts import ClipRejected, Facts
from wan_runtime.data.filters import Chain, Filter, form_of

EXACT = "accurate_rnd+full_chroma_int+bitexact"
"""Rounded, not cut off, and alike on every CPU."""
HD_LINES, HD_WIDTH = 720, 1280
"""From either on a picture without a tag is BT.709, as players assume; below, BT.601."""
FULL, LIMITED = "pc", "tv"
# By ITU-T H.273, as FFmpeg counts.
BT709, UNSPECIFIED, BT601, BT2020, IPT = 1, 2, 6, 9, 15
MATRICES = {BT709: "bt709", 4: "fcc", 5: "bt470bg", BT601: "smpte170m", 7: "smpte240m",
            BT2020: "bt2020nc"}  # fmt: skip
OTHER_MATRICES = {8: "YCgCo", 10: "BT.2020 of constant luminance", 11: "Y'D'zD'x", 12: "derived",
                  13: "derived", 14: "ICtCp", IPT: "IPT of Dolby Vision", 16: "YCgCo-R",
                  17: "YCgCo-R"}  # fmt: skip
HDR: dict[int, tone.Transfer] = {16: "PQ", 18: "HLG"}
WIDE: dict[int, tone.Primaries] = {9: "BT.2020", 11: "P3", 12: "P3"}
# (where the x axis goes, where the y axis goes) -> what FFmpeg's autorotate does.
TURNS: dict[tuple[int, int, int, int], tuple[Filter, ...]] = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): (("hflip", ""),),
    (1, 0, 0, -1): (("vflip", ""),),
    (-1, 0, 0, -1): (("hflip", ""), ("vflip", "")),
    (0, 1, -1, 0): (("transpose", "clock"),),
    (0, -1, 1, 0): (("transpose", "cclock"),),
    (0, 1, 1, 0): (("transpose", "cclock_flip"),),
    (0, -1, -1, 0): (("transpose", "clock_flip"),),
}
SLACK = 0.0175
"""Tolerance of a rotation by a multiple of 90 degrees: one degree, as in FFmpeg."""
UNNAMED = range(28, 48)
"""Kinds of side data that PyAV has no name for: it shows none at all of a frame with one."""


class Display:
    """Turns the frames of one clip into RGB."""

    def __init__(self, facts: Facts, longest: int | None = None) -> None:
        """`longest`: pixels that the longer side of the result is reduced to, if it has more."""
        self._facts = facts
        self._longest = longest
        self._chain: Chain | None = None
        self._like: tuple[object, ...] = ()
        self._turn: tuple[Filter, ...] = ()

    def measure(self, frame: av.VideoFrame) -> None:
        """Put into the facts how the frame is shown. Raises ClipRejected(ROTATION_UNSUPPORTED)."""
        self._turn = _turn(frame, self._facts)
        facts, aspect = self._facts, self._facts.stored_aspect
        facts.width, facts.height, facts.pixel_aspect = frame.width, frame.height, aspect
        if any(name == "transpose" for name, _ in self._turn):
            facts.width, facts.height = frame.height, frame.width
            facts.pixel_aspect = 1 / aspect

    @property
    def upright(self) -> bool:
        """The last frame that was measured is shown as it is stored: neither turned nor of other
        than square pixels."""
        return not self._turn and self._facts.stored_aspect == 1

    def pixels(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """[H, W, 3] of a frame that was measured. Raises ClipRejected(UNDECODABLE)."""
        like = (*form_of(frame), frame.color_primaries, frame.color_trc, self._turn)
        if self._chain is None or like != self._like:
            self._chain, self._like = self._built(frame), like
        self._chain.push(frame)
        pixels: NDArray[np.uint8] = next(self._chain.ready()).to_ndarray()
        return pixels

    def _built(self, frame: av.VideoFrame) -> Chain:
        levels = _range(frame)
        tags = f"range={levels}:colorspace={self._matrix(frame)}"
        filters: list[Filter] = [("setparams", f"{tags}:color_primaries=bt709:color_trc=bt709")]
        if levels == LIMITED and (_grey(frame) or frame.format.is_rgb):
            filters.append(_spread(frame))
        elif levels == FULL and _is_deep(frame):
            filters.append(_as_multiples_of_256(frame))
        if _see_through(frame):
            # Over white: what is left of the negative is that much less than white.
            filters += [
                ("scale", f"flags=bilinear+{EXACT}"),
                ("format", "gbrap16le"),
                _opaque(frame),
                ("negate", "components=r+g+b"),
                ("premultiply", "inplace=1"),
                ("negate", "components=r+g+b"),
                # Not to gbrp16le next: swscale copies half of the last row only.
            ]
        filters.append(self._scale(frame))
        transfer, primaries = self._colours(frame)
        table = None
        if (transfer, primaries) != ("SDR", "BT.709"):
            table = av.VideoFrame.from_ndarray(tone.table(transfer, primaries), "rgb48le")
            filters += [
                ("format", "rgb48le"),  # haldclut mixes the channels of planar forms up
                ("haldclut", "clut=first"),
                ("scale", f"flags=bilinear+{EXACT}:sws_dither=none"),
            ]
        elif _is_plain(frame) and self._factor(frame) == 1:
            filters.append(("format", "gbrp"))
        return Chain(frame, *filters, ("format", "rgb24"), *self._turn, table=table)

    def _scale(self, frame: av.VideoFrame) -> Filter:
        factor = self._factor(frame)
        width, height = (max(1, round(side * factor)) for side in (frame.width, frame.height))
        kind = "area" if factor < 1 else "bilinear"
        return "scale", f"{width}:{height}:flags={kind}+{EXACT}"

    def _factor(self, frame: av.VideoFrame) -> float:
        longer = max(frame.width, frame.height)
        return 1.0 if self._longest is None else min(1.0, self._longest / longer)

    def _colours(self, frame: av.VideoFrame) -> tuple[tone.Transfer, tone.Primaries]:
        transfer = HDR.get(int(frame.color_trc), "SDR")
        stated = int(frame.color_primaries)
        if transfer != "SDR":
            self._facts.hdr = transfer
            if stated not in WIDE and stated != BT709:
                stated = BT2020
        return transfer, WIDE.get(stated, "BT.709")

    def _matrix(self, frame: av.VideoFrame) -> str:
        if frame.format.is_rgb or frame.format.has_palette:
            return "gbr"
        stated = int(frame.colorspace)
        if stated in MATRICES:
            return MATRICES[stated]
        other = OTHER_MATRICES.get(stated)
        if int(frame.color_trc) == UNSPECIFIED and has_dolby_vision(frame):
            other = OTHER_MATRICES[IPT]  # often not tagged; other profiles tag their base
        if other is not None:
            raise ClipRejected(
                Code.UNDECODABLE,
                f"has the colour matrix {other}, which is not handled: convert it to BT.709",
                self._facts,
            )
        if int(frame.color_trc) in HDR or int(frame.color_primaries) == BT2020:
            return MATRICES[BT2020]
        hd = frame.height >= HD_LINES or frame.width >= HD_WIDTH
        return MATRICES[BT709 if hd else BT601]


def _range(frame: av.VideoFrame) -> str:
    if int(frame.color_range) in (1, 2):
        return FULL if int(frame.color_range) == 2 else LIMITED
    form = frame.format
    full = form.is_rgb or form.has_palette or _grey(frame) or form.name.startswith("yuvj")
    return FULL if full else LIMITED


def _grey(frame: av.VideoFrame) -> bool:
    form = frame.format
    colours = [each for each in form.components if not each.is_alpha]
    return len(colours) == 1 and not (form.has_palette or form.is_rgb or form.is_bayer)


def _is_plain(frame: av.VideoFrame) -> bool:
    """Whether swscale gives the same bits in half the time by way of one plane for each colour. Of
    odd heights it gives others."""
    return bool(frame.format.name == "yuv420p" and frame.height % 2 == 0)


def _is_deep(frame: av.VideoFrame) -> bool:
    """Has more than 8 bits, in a form that FFmpeg's `lut` takes as it is."""
    form = frame.format
    bits = form.components[0].bits
    taken = form.is_rgb or bits == 16 or not _see_through(frame)
    return bits > 8 and taken and not form.name.startswith(("p0", "xyz"))


def _see_through(frame: av.VideoFrame) -> bool:
    form = frame.format
    return form.has_palette or any(each.is_alpha for each in form.components)


def _spread(frame: av.VideoFrame) -> Filter:
    """Limited to full levels: swscale takes RGB and grey for full, whatever their tag says."""
    unit = 2 ** (frame.format.components[0].bits - 8)
    top = 255 * unit  # to swscale, and to `lut`
    spread = f"clip((val-{16 * unit})*{top}/{219 * unit}+0.5\\,0\\,{top})"
    return "lut", ":".join(f"c{number}={spread}" for number in range(3))


def _as_multiples_of_256(frame: av.VideoFrame) -> Filter:
    """Full levels of more than 8 bits such that the brightest is 255 of 8 bits and zeros, for which
    swscale takes them: else a picture is brighter by half a level in the mean."""
    form = frame.format
    bits = form.components[0].bits
    factor = f"{255 * 2 ** (bits - 8)}/{2**bits - 1}"
    centre = 0 if form.is_rgb or _grey(frame) else 2 ** (bits - 1)
    levels = [f"(val-{middle})*{factor}+{middle}+0.5" for middle in (0, centre, centre)]
    if form.is_rgb and len(frame.planes) == 4:  # whose opacity it cuts off at 255 too
        levels.append(levels[0])
    return "lut", ":".join(f"c{number}={level}" for number, level in enumerate(levels))


def _opaque(frame: av.VideoFrame) -> Filter:
    """The opacity of what is opaque, as swscale hands it over, to the largest number of 16 bits."""
    form = frame.format
    bits = form.components[-1].bits
    top = 65535 if len(frame.planes) == 1 else (2**bits - 1) * 2 ** (16 - bits)
    if form.name == "ya8" or (form.is_rgb and len(frame.planes) == 4):
        top = 255 * 256
    return "colorchannelmixer", f"aa={65535 / top}"


def _turn(frame: av.VideoFrame, facts: Facts) -> tuple[Filter, ...]:
    """What makes a frame upright, by its display matrix."""
    stored = display_matrix(frame)
    if stored is None:
        stored = facts.display_matrix
    if stored is None:
        return ()
    # Columns by their length, which says how large to show it: that is not followed.
    axes = stored[:2, :2] / 65536
    lengths = np.hypot(axes[0], axes[1])
    if not lengths.all():
        return ()
    turn = axes / lengths
    exact = np.round(turn).astype(int)
    filters = TURNS.get((exact[0, 0], exact[0, 1], exact[1, 0], exact[1, 1]))
    if filters is None or np.abs(turn - exact).max() > SLACK:
        degrees = math.degrees(math.atan2(turn[0, 1], turn[0, 0]))
        raise ClipRejected(
            Code.ROTATION_UNSUPPORTED,
            f"is to be shown turned by {degrees:.0f} degrees, or slanted; only quarter turns are "
            "handled, mirrored or not",
            facts,
        )
    return filters


def display_matrix(frame: av.VideoFrame) -> NDArray[np.int32] | None:
    """[3, 3], as in MP4: the rows are where the x axis goes, where the y axis goes, an offset."""
    found = _side_data(frame).get("DISPLAYMATRIX")
    return None if found is None else np.frombuffer(found, np.int32).reshape(3, 3)


def has_dolby_vision(frame: av.VideoFrame) -> bool:
    """Whether there are data for displays of Dolby Vision: of HEVC the first kind, of AV1 the
    second."""
    found = _side_data(frame)
    return bool(found.get("DOVI_RPU_BUFFER") or found.get("DOVI_METADATA"))


def _side_data(frame: av.VideoFrame) -> Any:
    """Side data by its name in PyAV."""
    try:
        return frame.side_data
    except ValueError:  # PyAV has no name for a kind of it
        chain = Chain(frame, *[("sidedata", f"mode=delete:type={kind}") for kind in UNNAMED])
        chain.push(frame)
        return next(chain.ready()).side_data
