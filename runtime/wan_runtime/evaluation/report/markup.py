"""Elements of HTML and SVG. Texts are escaped by `text`, and nothing else makes markup of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

NONE = "–"
"""Where there is no value."""
VOID = frozenset({"img", "input", "meta", "source"})
NAMES = {"cls": "class", "for_": "for"}


def text(words: object) -> str:
    """Words as they are, whatever characters they have."""
    return escape(str(words))


def element(tag: str, content: str = "", /, **attributes: object) -> str:
    """An element. Attributes that are None or False are left out, those that are True have no
    value; `cls` is `class`, and underscores are hyphens."""
    given = "".join(
        f" {_named(key)}" if value is True else f' {_named(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return f"<{tag}{given}>" if tag in VOID else f"<{tag}{given}>{content}</{tag}>"


def number(value: float | None, unit: str = "") -> str:
    """Four digits, or a dash."""
    if value is None:
        return NONE
    return f"{value:.4g}" + (f" {unit}" if unit else "")


def span(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval, if it has one."""
    if value is None:
        return NONE
    ends = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    return number(value) + ends


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], **given: object
) -> str:
    """A table in a frame that scrolls on narrow screens. Cells are markup; the first of each row is
    its heading."""
    head = "".join(element("th", each, scope="col") for each in heads)
    body = "".join(
        element(
            "tr",
            element("th", row[0], scope="row") + "".join(element("td", cell) for cell in row[1:]),
        )
        for row in rows
    )
    content = (
        element("caption", text(caption))
        + element("thead", element("tr", head))
        + element("tbody", body)
    )
    return element(
        "div", element("table", content, **given), cls="scroll", tabindex=0, role="region",
        aria_label=caption,
    )  # fmt: skip


def section(title: str, *content: str, anchor: str | None = None) -> str:
    """A part of the page; none without content."""
    if not any(content):
        return ""
    return element("section", element("h2", text(title)) + "".join(content), id=anchor)


def paragraph(words: str, cls: str | None = None) -> str:
    """Text on its own."""
    return element("p", text(words), cls=cls)


def details(summary: str, content: str) -> str:
    """Content that opens on request."""
    return element("details", element("summary", text(summary)) + content)


def _named(key: str) -> str:
    return NAMES.get(key, key.replace("_", "-"))
