"""GIFs as FFmpeg has to get them, so that it shows them as browsers do."""

from __future__ import annotations

HEADER = 13
"""Bytes before the palette of all pictures."""
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B


def without_background(data: bytes) -> bytes:
    """The same GIF with a palette for each picture in place of one for all.

    A background colour is an entry of the latter. FFmpeg paints it around a first picture that is
    smaller than the canvas, and where one is taken away; browsers leave both transparent, as they
    are where there is no such entry. By GIF89a, sections 18 to 23 and appendix B."""
    shared = data[10] if len(data) > HEADER else 0
    if not shared & 0x80:
        return data
    size = shared & 7
    at = HEADER + (6 << size)
    palette = data[HEADER:at]
    out = bytearray(data[:HEADER])
    out[10] = shared & 0x70
    while at < len(data) and data[at] != TRAILER:
        if data[at] == EXTENSION:
            end = _after_blocks(data, at + 2)
            out += data[at:end]
        elif data[at] == IMAGE and at + 10 <= len(data):
            flags, begun = data[at + 9], at + 10
            out += data[at : at + 9]
            if flags & 0x80:
                begun += 6 << (flags & 7)
                out += data[at + 9 : begun]
            else:
                out.append(0x80 | flags & 0x40 | size)
                out += palette
            end = _after_blocks(data, begun + 1)
            out += data[begun:end]
        else:
            end = at + 1
            out += data[at:end]
        at = end
    return bytes(out + data[at:])


def _after_blocks(data: bytes, at: int) -> int:
    """Where a row of blocks ends, each after its size, by one of none."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
