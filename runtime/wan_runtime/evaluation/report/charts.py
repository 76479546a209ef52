"""Charts as SVG within the page: they take its colours, and a reader of screens their titles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wan_runtime.evaluation.report.markup import element, number, text

WIDTH = 640
LABELS = 190
"""Pixels left of the axis, for labels."""
RIGHT = 90
"""Pixels right of it, for values."""
ROW = 34
AXIS = 30
"""Pixels below, for the numbers of the axis."""
HEIGHT = 320
"""Pixels of a scatter chart."""
NOTHING: Mapping[str, float] = {}
TICKS = 5
CHARACTERS = 26
"""Characters of a label that there is room for."""


@dataclass(frozen=True, slots=True)
class Row:
    """A value with its interval."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = False
    """Whether it is drawn in the colour of what is decided."""


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate between cost and quality."""

    label: str
    x: float
    y: float
    strong: bool = False


def intervals(
    title: str,
    rows: Sequence[Row],
    *,
    zero: bool = False,
    band: float | None = None,
    lines: Mapping[str, float] = NOTHING,
    mark: float | None = None,
) -> str:
    """Values with their intervals, one below the other.

    Args:
        zero: draw the line of no difference.
        band: half the width of a band around zero, within which a difference is noise.
        lines: titles of dashed lines on both sides of zero -> their distance from it.
        mark: value from which a mean counts as good.
    """
    values = [each for row in rows for each in (row.value, row.low, row.high) if each is not None]
    values += [0.0] if zero else []
    values += [-band, band] if band else []
    values += [mark] if mark is not None else []
    ticks = ticks_of(min(values), max(values))
    height = ROW * len(rows) + AXIS
    place = _scale(ticks, LABELS, WIDTH - RIGHT)
    parts = [_ticks(ticks, place, ROW * len(rows))]
    if band:
        left, right = place(-band), place(band)
        parts.append(
            element("rect", "", x=left, y=0, width=right - left, height=ROW * len(rows), cls="band")
        )
    for title_of_line, distance in lines.items():
        both = [
            _line(place(at), 0, place(at), ROW * len(rows), "noise") for at in (-distance, distance)
        ]
        parts.append(element("g", element("title", text(title_of_line)) + "".join(both)))
    if zero:
        parts.append(_line(place(0), 0, place(0), ROW * len(rows), "zero"))
    if mark is not None:
        parts.append(_line(place(mark), 0, place(mark), ROW * len(rows), "mark"))
    for index, row in enumerate(rows):
        y = ROW * index + ROW / 2
        cls = "strong" if row.strong else "plain"
        parts.append(_words(LABELS - 10, y, _short(row.label), "end"))
        if row.low is not None and row.high is not None:
            parts.append(_line(place(row.low), y, place(row.high), y, f"span {cls}"))
        parts.append(element("circle", "", cx=place(row.value), cy=y, r=5, cls=f"dot {cls}"))
        parts.append(_words(WIDTH - RIGHT + 12, y, number(row.value), "start"))
    return _svg(title, height, parts)


def scatter(title: str, points: Sequence[Point], across: str, up: str) -> str:
    """Cost against quality; those that no other beats in both are joined by a line."""
    xs = ticks_of(0.0, max(each.x for each in points))
    ys = ticks_of(min(each.y for each in points), max(each.y for each in points))
    place_x = _scale(xs, 70, WIDTH - 40)
    bottom = HEIGHT - 46
    place_y = _scale(ys, bottom, 16)
    parts = []
    for tick in xs:
        parts.append(_line(place_x(tick), 16, place_x(tick), bottom, "grid"))
        parts.append(_words(place_x(tick), bottom + 16, number(tick), "middle"))
    for tick in ys:
        parts.append(_line(70, place_y(tick), WIDTH - 40, place_y(tick), "grid"))
        parts.append(_words(62, place_y(tick), number(tick), "end"))
    front = sorted((each for each in points if each.strong), key=lambda each: each.x)
    path = " ".join(f"{place_x(each.x):.1f},{place_y(each.y):.1f}" for each in front)
    parts.append(element("polyline", "", points=path, cls="front"))
    for each in points:
        x, y = place_x(each.x), place_y(each.y)
        cls = "strong" if each.strong else "plain"
        parts.append(element("circle", "", cx=x, cy=y, r=6, cls=f"dot {cls}"))
        beside = ("end", -10) if x > WIDTH * 0.7 else ("start", 10)
        parts.append(_words(x + beside[1], y - 10, _short(each.label), beside[0]))
    parts.append(_words((70 + WIDTH - 40) / 2, HEIGHT - 8, across, "middle"))
    parts.append(_words(70, 8, up, "start"))
    return _svg(title, HEIGHT, parts)


def ticks_of(low: float, high: float) -> list[float]:
    """About TICKS round numbers from at most `low` to at least `high`."""
    if not high > low:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * each, 12) for each in range(first, last + 1)]


class _scale:
    """Pixels of a value, between those of the first and the last tick."""

    def __init__(self, ticks: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = ticks[0], ticks[-1]
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)


def _ticks(ticks: Sequence[float], place: _scale, bottom: float) -> str:
    return "".join(
        _line(place(tick), 0, place(tick), bottom, "grid")
        + _words(place(tick), bottom + 18, number(tick), "middle")
        for tick in ticks
    )


def _line(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    return element("line", "", x1=x1, y1=y1, x2=x2, y2=y2, cls=cls)


def _words(x: float, y: float, words: str, anchor: str) -> str:
    return element("text", text(words), x=round(x, 1), y=round(y + 4, 1), text_anchor=anchor)


def _short(label: str) -> str:
    return label if len(label) <= CHARACTERS else label[: CHARACTERS - 1] + "…"


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    content = element("title", text(title)) + "".join(parts)
    drawn = element(
        "svg", content, viewBox=f"0 0 {WIDTH} {height:g}", role="img", cls="chart",
        aria_label=title,
    )  # fmt: skip
    return element("figure", element("figcaption", text(title)) + drawn, cls="scroll")
