"""YAML files as kubectl reads them, and what is wrong with those that cannot be read."""

from __future__ import annotations

import re
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from wan_operator.yaml_faults import Misplaced, unfitting, why_unreadable

LIMIT = 4 * 2**20
"""Bytes of one file."""
NODES = 200_000
"""Values of one file, with those that an alias repeats."""
BITS = 256
"""Bits of a whole number, at most: more than any field takes."""
STDIN = "-"


class DocumentError(Exception):
    """What is wrong with the input, with file, document and field."""


_TAG = "tag:yaml.org,2002:"
_PLAIN: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("bool", "y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
     "yYnNtTfFoO"),
    ("int", "[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[.][0-9][0-9_]*|[0-9][0-9_]*(?:[.][0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
     r"|[-+]?[.](?:inf|Inf|INF)|[.](?:nan|NaN|NAN)", "-+.0123456789"),
    ("null", "~|null|Null|NULL|", ("~", "n", "N", "")),
    ("merge", "<<", "<"),
)  # fmt: skip
"""Tag, form and first characters of texts without quotes that are no text: those of kubectl's
reader, go-yaml 2. PyYAML's own take 1e-5 for a text, 1:30 for a number and 08 for a mistake."""


class _Loader(yaml.SafeLoader):
    """Reads values as kubectl does: dates and bytes are text, 5.0 is 5, and a field that stands
    twice is refused, of which PyYAML would take the last."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            raise unfitting(node) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if key.value in seen:
                raise Misplaced(f"{key.value} stands twice", key)
            seen.add(key.value)
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made

    def construct_yaml_str(self, node: Any) -> str:
        text = str(self.construct_scalar(node))
        if not text.isascii():
            text.encode()  # "\\ud800" is half a character
        return text

    def construct_yaml_int(self, node: Any) -> int:
        text = str(self.construct_scalar(node)).replace("_", "")
        octal = re.fullmatch("([-+]?)0([0-7]+)", text)
        number = int(f"{octal[1]}0o{octal[2]}" if octal else text, 0)
        if number.bit_length() > BITS:
            raise ValueError
        return number

    def construct_yaml_float(self, node: Any) -> float:
        number = float(super().construct_yaml_float(node))
        return int(number) if number.is_integer() else number


_Loader.bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}
_Loader.yaml_implicit_resolvers = {}
for _name, _form, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_form})$"), list(_first))
for _kinds, _constructor in (
    (("str", "timestamp", "binary"), _Loader.construct_yaml_str),
    (("int",), _Loader.construct_yaml_int),
    (("float",), _Loader.construct_yaml_float),
    (("set", "omap", "pairs"), _Loader.construct_undefined),
):
    for _kind in _kinds:
        _Loader.add_constructor(_TAG + _kind, _constructor)


def named(file: str) -> str:
    """The name of a file in messages."""
    return "standard input" if file == STDIN else file


def yaml_documents(file: str) -> list[Any]:
    """All documents of a file, `-` being standard input. Raises DocumentError."""
    text = _content(file)
    try:
        documents = list(yaml.load_all(text, _Loader))
        if any(_count(each, NODES) <= 0 for each in documents):
            raise DocumentError(f"{named(file)} holds more than {NODES} values: too much to read")
        return documents
    except RecursionError as error:
        raise DocumentError(f"{named(file)} is nested too deeply to be read") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{named(file)} {why_unreadable(error, text)}") from error


def _content(file: str) -> bytes:
    """PyYAML finds out the encoding by itself: PowerShell writes UTF-16."""
    try:
        if file == STDIN:
            # Tests put a text in its place, which has no buffer.
            stream = getattr(sys.stdin, "buffer", None)
            data = stream.read(LIMIT + 1) if stream else sys.stdin.read(LIMIT + 1).encode()
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(LIMIT + 1)
    except IsADirectoryError as error:
        raise DocumentError(f"{named(file)} is a folder: name the files in it") from error
    except OSError as error:
        if "://" in file:
            raise DocumentError(f"{file} is an address: download it, and name the file") from error
        raise DocumentError(f"{named(file)} cannot be read: {error.strerror}") from error
    if len(data) > LIMIT:
        raise DocumentError(f"{named(file)} is larger than {LIMIT // 2**20} MiB")
    return bytes(data)


def _count(value: Any, left: int) -> int:
    """`left` without the values in `value`; 0 or less once they are too many. A few lines of
    aliases can stand for billions."""
    children = value.values() if isinstance(value, dict) else value
    left -= 1
    if isinstance(value, dict | list):
        for child in children:
            if left <= 0:
                break
            left = _count(child, left)
    return left
