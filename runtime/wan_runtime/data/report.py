"""report.html: every clip with its thumbnail and its verdict, in one file that loads nothing."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from wan_runtime.data.dataset import Clip, Code, Dataset
from wan_runtime.data.source import counted

FILE = "report.html"
HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Dataset report</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'">
<style>
body {font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff}
table {border-collapse: collapse} td, th {padding: .3em .8em; vertical-align: top; text-align: left}
tr {border-top: 1px solid #ddd} img {display: block; width: 336px; background: #eee}
.Rejected {background: #fde8e8} .Warned {background: #fff6db} p {max-width: 60em}
</style>
"""


def write_report(path: Path, dataset: Dataset, thumbnails: Mapping[int, bytes]) -> None:
    """`thumbnails`: WebP of a clip by its row. Rejected clips come first, then those with
    warnings."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{HEAD}<h1>{escape(dataset.source)}</h1>\n<p>{escape(summary(dataset))}</p>\n")
        file.writelines(f"<p>{escape(note)}</p>\n" for note in dataset.notes)
        file.write("<table><tr><th>Clip<th>Verdict<th>Caption\n")
        for clip in sorted(dataset.clips, key=_urgency):
            file.write(_row(clip, thumbnails.get(clip.row)))
        file.write("</table>\n</html>\n")


def counts(clips: Sequence[Clip]) -> str:
    """`3 SceneCut, 1 NearStatic`: verdicts of the rejected, or concerns of the others."""
    found = Counter(
        str(code)
        for clip in clips
        for code in (
            [warned.code for warned in clip.warnings] if clip.code is Code.ACCEPTED else [clip.code]
        )
    )
    return ", ".join(f"{count} {code}" for code, count in found.most_common())


def summary(dataset: Dataset) -> str:
    """One line for people."""
    sizes = ", ".join(map(str, dataset.buckets))
    clips = counted(len(dataset.clips), "clip")
    parts = [f"{clips} of {dataset.metadata} for {sizes} at {dataset.fps:g} fps"]
    parts.append(f"{len(dataset.train)} train, {len(dataset.held_out)} held out")
    if len(dataset.buckets) > 1:
        parts.append(f"Train by bucket: {filled(dataset)}")
    if dataset.rejected:
        parts.append(f"{len(dataset.rejected)} rejected: {counts(dataset.rejected)}")
    if dataset.warned:
        parts.append(f"{len(dataset.warned)} with warnings: {counts(dataset.warned)}")
    return ". ".join(parts) + "."


def filled(dataset: Dataset, batch: int = 1) -> str:
    """`832x480x81 120, 480x832x81 3 (fewer than a batch)`: how many windows train in each."""
    return ", ".join(
        f"{bucket} {count}" + (" (fewer than a batch)" if count < batch else "")
        for bucket, count in dataset.windows.items()
    )


def _urgency(clip: Clip) -> tuple[int, int]:
    return {"Rejected": 0, "Warned": 1}.get(_verdict(clip), 2), clip.row


def _verdict(clip: Clip) -> str:
    if clip.code is not Code.ACCEPTED:
        return "Rejected"
    return "Warned" if clip.warnings else clip.split or "Accepted"


def _row(clip: Clip, thumbnail: bytes | None) -> str:
    picture = ""
    if thumbnail is not None:
        data = base64.b64encode(thumbnail).decode()
        picture = f'<img alt="" loading="lazy" src="data:image/webp;base64,{data}">'
    said = [f"{clip.code}: {clip.message}"] if clip.code is not Code.ACCEPTED else []
    said += [f"{warned.code}: {warned.message}" for warned in clip.warnings]
    said += [clip.split] if clip.split else []
    said += [f"cut to {clip.bucket}"] if clip.bucket is not None else []
    size = f"{clip.width}x{clip.height}, {clip.fps:g} fps" if clip.width and clip.fps else ""
    cells = (
        f"{picture}{escape(f'{clip.row}. {clip.path}')}<br>{escape(size)}",
        "<br>".join(map(escape, said)),
        escape(clip.prompt),
    )
    return f'<tr class="{_verdict(clip)}"><td>' + "<td>".join(cells) + "\n"
