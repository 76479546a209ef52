"""Files of a dataset as text, or what is wrong with them in words of ours."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from wan_runtime.contract.reasons import Reason
from wan_runtime.data.source import Source
from wan_runtime.errors import InputError
from wan_runtime.faults import value

MAX_BYTES = 64 * 2**20
"""Size of one metadata file, at most, in bytes."""
KEYS = 12
"""Keys of an object that a message names, at most."""
LONGEST = 60
"""Characters of a line that a message quotes."""
SAVE = "save it as UTF-8"
SAVE_TABLE = f'{SAVE} (in Excel "CSV UTF-8", in Notepad "UTF-8")'
TABLES = (".csv", ".tsv")
OTHER_FILES = (
    (b"PK\x03\x04", "is a workbook, a Word file or a zip archive: {save}"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel or Word file: {save}"),
    (b"{\\rtf", "is rich text: save it as plain text"),
    (b"%PDF", "is a PDF: save it as plain text"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it"),
    (b"version https://git-lfs", "is a pointer of Git LFS: run `git lfs pull`"),
)
"""First bytes of what is put in a text file's place, and what to do."""
WEB_PAGE = re.compile(rb"\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|head)\b", re.IGNORECASE)
MARKS = (
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark begins alike
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def invalid(name: str, message: str) -> InputError:
    """The error of a file that is wrong."""
    return InputError(Reason.DATASET_INVALID, f"{name} {message}")


def read_text(source: Source, path: str) -> str:
    """Text of a file. Raises InputError(DATASET_INVALID), ObjectNotFound."""
    size = source.size(path)
    if size is not None and size > MAX_BYTES:
        raise invalid(path, f"has {size} bytes; at most {MAX_BYTES} are read")
    return decode(path, source.read(path))


def decode(name: str, data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, as Excel and Notepad write it;
    lines end with a line feed.

    Other encodings are not guessed: most bytes are text in several of them.
    Raises InputError(DATASET_INVALID).
    """
    table = name.lower().endswith(TABLES)
    save = SAVE_TABLE if table else SAVE
    for first, fault in OTHER_FILES:
        if data.startswith(first):
            anew = 'save the table as "CSV UTF-8"' if table else "save it as plain text in UTF-8"
            raise invalid(name, fault.format(save=anew))
    if WEB_PAGE.match(data[:1024].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")):
        tabular = name.lower().endswith((*TABLES, ".json", ".jsonl"))
        raise invalid(name, f"is a web page, not {'a table' if tabular else 'plain text'}")
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "UTF-8")
    if encoding == "UTF-8" and b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise invalid(name, f"is no text, or UTF-16 without its mark, in line {line}: {save}")
    try:
        text = data.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
    except UnicodeDecodeError as error:
        if encoding != "UTF-8":
            raise invalid(name, f"begins as {encoding} and does not go on so: {save}") from error
        lines = _one_kind_of_end(data.decode("cp1252", "replace")).split("\n")
        line = _one_kind_of_end(data[: error.start].decode("cp1252", "replace")).count("\n") + 1
        given = short(lines[line - 1])
        raise invalid(
            name, f"is not UTF-8 in line {line}: read as Windows-1252 it is {given}: {save}"
        ) from error
    return _one_kind_of_end(text)


def load_toml(name: str, text: str) -> dict[str, Any]:
    """Content of a TOML file. Raises InputError(DATASET_INVALID)."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise invalid(name, "is no TOML that is read here: it is nested too deeply") from error
    except ValueError as error:
        found = re.search(r"at line (\d+), column \d+", str(error))
        if found is None:
            raise invalid(name, "is no TOML: it ends within a value") from error
        number = int(found[1])
        content = text.split("\n")[number - 1].strip()
        hint = (
            ": in double quotes a \\ has a meaning of its own; write /" if "\\" in content else ""
        )
        raise invalid(name, f"is no TOML in line {number}, {short(content)}{hint}") from error


def short(text: str) -> str:
    """The beginning of a text in quotes."""
    text = text.strip()
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def keys_of(keys: Iterable[str]) -> str:
    """The first keys in quotes; the others by number."""
    found = list(keys)
    more = f" and {len(found) - KEYS} more" if len(found) > KEYS else ""
    return (", ".join(map(short, found[:KEYS])) or "none") + more


def _one_kind_of_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def quoted(given: Any) -> str:
    """Value of a setting, short: text in quotes, all else as JSON has it."""
    return short(given) if isinstance(given, str) else value(given)
