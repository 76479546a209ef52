"""What kind of file a name is of."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".ismv",
        ".mkv", ".mk3d", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".m2t",
        ".mpg", ".mpeg", ".vob", ".dvd", ".flv", ".gif", ".wmv", ".asf", ".ogv", ".ogg",
    }
)  # fmt: skip
"""Those of the containers that clips are opened from (`FORMATS` of decode.py)."""
PICTURE_SUFFIXES = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif",
        ".jxl",
    }
)  # fmt: skip
JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"})
"""What Windows, macOS and Synology leave in folders."""

PLACEHOLDER = re.compile(r"\.(.+)\.icloud")
"""What macOS leaves of a file whose content it has moved to iCloud."""


def is_video(path: str) -> bool:
    """Whether it is a video by its suffix, and no junk."""
    return suffix(path) in VIDEO_SUFFIXES and not is_junk(path)


def is_picture(path: str) -> bool:
    """Whether it is a picture by its suffix, and no junk."""
    return suffix(path) in PICTURE_SUFFIXES and not is_junk(path)


def is_junk(path: str) -> bool:
    """Whether it is hidden, such as the `._a.mp4` that macOS leaves beside `a.mp4`, or is what a
    system wrote for itself."""
    parts = PurePosixPath(path).parts
    return any(part.startswith(".") or part.lower() in JUNK for part in parts)


def is_listed(path: str) -> bool:
    """Whether a file is to be read or to be named: all but junk, of which placeholders are not."""
    return not is_junk(path) or evicted(path) is not None


def evicted(path: str) -> str | None:
    """The file that a placeholder of iCloud stands for: `in/.a.mp4.icloud` -> `in/a.mp4`. None if
    it is no placeholder."""
    pure = PurePosixPath(path)
    match = PLACEHOLDER.fullmatch(pure.name)
    return None if match is None else str(pure.with_name(match[1]))


def suffix(path: str) -> str:
    """The last suffix in lower case: `clips/a.MP4` -> `.mp4`."""
    return PurePosixPath(path).suffix.lower()


def stem(path: str) -> str:
    """The path without its last suffix, in the normal form NFC: what a clip and its caption share,
    whichever system named them."""
    return unicodedata.normalize("NFC", str(PurePosixPath(path).with_suffix("")))
