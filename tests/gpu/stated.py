"""Rows of a bench, as far as they state what they are of: how many GPUs, how they shared the work,
and how much of the transformer was there. No torch.

Without it a step of two GPUs, or of eight of the 40 layers, reads like that of one and of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

LAYERS = 40
"""Of the whole transformer."""
NEEDED = {
    "clip-*": ("ranks",),
    "turns-*": ("ranks", "layers"),
    "step-*": ("ranks", "layers"),
    "step": ("ranks", "layers", "layout"),
    "x*-step-*": ("ranks", "layers", "layout"),
    "x*-ring-*": ("ranks", "layers", "layout"),
    "decode": ("ranks",),
    "x*-decode": ("ranks",),
    "*ranks": ("ranks", "layers", "sequence"),
    "*zero-3-*": ("ranks", "layers", "sequence"),
}
"""Facts of each row, by the file's name, of which the first that fits counts."""


def content(folder: Path, name: str) -> Any:
    """What a bench left in a file; an empty list without one, and for one that is in `unstated`."""
    path = folder / f"{name}.json"
    found = json.loads(path.read_text()) if path.is_file() else []
    return [] if _lacks(name, found) else found


def named(folder: Path, pattern: str) -> list[Any]:
    """The contents of all files of such a name, in the order of their names."""
    found = [content(folder, path.stem) for path in sorted(folder.glob(f"{pattern}.json"))]
    return [each for each in found if each]


def unstated(folder: Path) -> Iterator[str]:
    """A line for each file that says too little to be used."""
    for path, missing in _lacking(folder):
        yield f"{path.name} is left out, its rows lack {missing}: take them anew"


def set_aside(folder: Path) -> Iterator[str]:
    """Rename such files, so that their rows are taken anew; a line for each."""
    for path, missing in [*_lacking(folder)]:
        path.rename(path.with_suffix(".unstated"))
        yield f"{path.stem}: its rows lack {missing}: taken anew"


def is_whole(facts: dict[str, Any], ranks: int = 1) -> bool:
    """Whether a row is of so many GPUs and of all layers."""
    return bool(facts["ranks"] == ranks and facts["layers"] == LAYERS)


def _lacking(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.glob("*.json")):
        missing = _lacks(path.stem, json.loads(path.read_text()))
        if missing:
            yield path, ", ".join(missing)


def _lacks(name: str, found: Any) -> list[str]:
    """Facts that a row of the file of this name should state and does not."""
    needed = next((facts for pattern, facts in NEEDED.items() if fnmatch(name, pattern)), ())
    rows = found
    if isinstance(found, dict):
        rows = found["rows"] if isinstance(found.get("rows"), list) else [found]
    return [fact for fact in needed if any(fact not in row for row in rows)]
