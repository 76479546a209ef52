"""The clips: players, contact sheets, and a table of all that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wan_runtime.contract.metric_names import METRICS
from wan_runtime.evaluation.records import Measured, TestClip
from wan_runtime.evaluation.report.markup import (
    NONE,
    element,
    number,
    paragraph,
    section,
    text,
)
from wan_runtime.evaluation.report.pictures import Embedded
from wan_runtime.evaluation.report.tables import title_of
from wan_runtime.evaluation.result import EvaluationResult

ROWS = 4000
"""Rows of the table, at most: browsers sort as many at once."""
LEGACY = "PSNR of 8-bit errors (means nothing)"


def players(result: EvaluationResult, embedded: Mapping[str, Embedded]) -> str:
    """The first clips side by side, and pictures of further ones."""
    parts = [
        _clip(clip, embedded[clip.id], _failures(result, clip.id))
        for clip in result.clips
        if clip.id in embedded
    ]
    note = "Small copies; the videos themselves are in the store."
    left = len(result.clips) - len(parts)
    if left:
        note += f" {left} further clips have no pictures here."
    return section("Clips side by side", paragraph(note, "quiet"), *parts)


def _failures(result: EvaluationResult, clip: str) -> dict[str, str]:
    """Why candidates failed on a clip, by their names."""
    return {
        each.candidate: each.failure
        for each in result.scores.measured
        if each.clip == clip and each.render == "First" and each.failure
    }


def _clip(clip: TestClip, embedded: Embedded, failures: Mapping[str, str]) -> str:
    head = element("h3", text(f"{clip.id}: {clip.prompt}"))
    about = (
        f"{clip.recorded.path}, {clip.size}, {clip.frames} frames at {clip.fps:g} fps, "
        f"seed {clip.seed}"
    )
    content = head + paragraph(about, "quiet")
    if embedded.players:
        figures = "".join(
            element(
                "figure",
                element(
                    "video", "", src=each.video,
                    poster=each.poster, controls=True, muted=True, loop=True, playsinline=True,
                    preload="none", aria_label=f"{clip.id}, {each.name}",
                )
                + element("figcaption", text(each.name)),
            )
            for each in embedded.players
        )  # fmt: skip
        figures += "".join(
            element(
                "figure",
                element("div", text(f"failed: {why}"), cls="absent")
                + element("figcaption", text(name)),
            )
            for name, why in failures.items()
            if name not in {each.name for each in embedded.players}
        )
        content += element(
            "div", element("button", "Play all together", type="button", hidden=True)
            + element("div", figures, cls="players"), data_players=True,
        )  # fmt: skip
    if embedded.sheet:
        words = f"Frames of {clip.id} at equal times, a row for each candidate"
        image = element("img", src=embedded.sheet, alt=words, cls="sheet", loading="lazy")
        if embedded.players:
            image = element("details", element("summary", "Contact sheet") + image)
        content += image
    return element("article", content, cls="clip", id=clip.id)


def measurements(result: EvaluationResult) -> str:
    """Every video with its metrics, sortable."""
    names = list(result.work.metrics)
    legacy = result.work.legacy_psnr
    heads = ["Clip", "Candidate", "Render", *map(title_of, names), *([LEGACY] if legacy else [])]
    measured = result.scores.measured
    rows = [_row(each, names, legacy=legacy) for each in measured[:ROWS]]
    head = "".join(element("th", text(each), scope="col") for each in heads)
    caption = "Every video with its metrics; the heading of a column sorts by it"
    content = (
        element("caption", text(caption))
        + element("thead", element("tr", head))
        + element("tbody", "".join(rows))
    )
    left = len(measured) - len(rows)
    return section(
        "Measurements",
        element(
            "div", element("table", content, data_sortable=True), cls="scroll", tabindex=0,
            role="region", aria_label=caption,
        ),
        paragraph(f"{left} further rows are in evaluation.json.") if left else "",
    )  # fmt: skip


def _row(each: Measured, names: Sequence[str], *, legacy: bool) -> str:
    cells = [
        element("td", text(each.candidate)),
        element("td", text("" if each.render == "First" else each.render)),
    ]
    if each.failure:
        columns = len(names) + legacy
        words = text(f"failed: {each.failure}")
        cells.append(element("td", words, cls="failed", colspan=columns, data_value=""))
    else:
        cells += [_value(each, name) for name in names]
        if legacy:
            found = each.legacy_psnr_uint8
            value = "" if found is None else found
            cells.append(element("td", number(found), data_value=value))
    link = element("a", text(each.clip), href=f"#{each.clip}")
    return element("tr", element("th", link, scope="row") + "".join(cells))


def _value(each: Measured, name: str) -> str:
    found = each.values.get(name)
    if found is None:
        why = each.missing.get(name)
        return element("td", NONE, title=why, data_value="")
    unit = METRICS[name].unit  # type: ignore[index]
    return element("td", number(found, unit if unit == "dB" else ""), data_value=found)
