"""Files of a folder that are not trained on, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from wan_runtime.data.formats.suffixes import evicted, is_junk, is_picture, stem, suffix
from wan_runtime.data.source import counted, printable

NAMED = 3
"""Files that a note names; of the others it has the number."""


def notes_on(paths: Iterable[str], used: Set[str], captions: Sequence[str]) -> list[str]:
    """A sentence for each kind of file not in `used`. `captions`: suffixes of caption files."""
    paths = list(paths)
    away = sorted(filter(None, map(evicted, paths)))
    rest = [path for path in paths if path not in used and not is_junk(path)]
    texts = [path for path in rest if suffix(path) in captions]
    described = {stem(path) for path in texts}
    pictures = [path for path in rest if is_picture(path)]
    others = [path for path in rest if path not in texts and path not in pictures]
    clips = [path for path in others if stem(path) in described]
    said = {stem(path) for path in (*pictures, *clips)}
    captioned = {stem(path) for path in used}
    second = [path for path in texts if stem(path) in captioned]
    alone = [path for path in texts if stem(path) not in said | captioned]
    kinds = (
        ("pictures, which are not trained on", pictures),
        ("files with a caption, of no kind of video that is read", clips),
        ("captions of clips that have another", second),
        ("captions without a clip", alone),
        ("other files", [path for path in others if path not in clips]),
    )
    notes = [f"left out: {kind} ({len(files)}): {named(files)}" for kind, files in kinds if files]
    return [f"left out: {in_icloud(away)}", *notes] if away else notes


def in_icloud(paths: Sequence[str]) -> str:
    """What is to be done about files of which only the names are on this machine."""
    files = f"{counted(len(paths), 'file')} in iCloud only"
    return f"{files}, to be downloaded first: {named(paths)}"


def named(paths: Sequence[str]) -> str:
    """The first by name, the others by number."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(map(printable, paths[:NAMED])) + more
