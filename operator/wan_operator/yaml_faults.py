"""What is wrong with text that is no YAML, in a sentence that says what to write instead.

PyYAML's own words name states of its parser. They choose the sentence here and go no further.
"""

from __future__ import annotations

import re

import yaml

from wan_runtime.faults import value

COLON = (
    "a colon stands where none can: align the fields of an object, and quote a text that has ': '"
)
SENTENCES: tuple[tuple[str, str], ...] = (
    (r"found character '\\t'", "a tab: indent with blanks"),
    (r"found character '(.)'", "a text that begins with {0} must stand in quotes"),
    (r"could not find expected ':'", "a line has no colon: is it part of the text above it?"),
    (r"mapping values are not allowed", COLON),
    (
        r"(?:sequence entries|mapping keys) are not allowed",
        "a list item or a key cannot stand here",
    ),
    (r"found undefined alias '(.*)'", "*{0} stands for nothing: quote a text that begins with *"),
    (r"expected alphabetic or numeric character", "quote a text that begins with *, & or %"),
    (r"found unexpected (?:end of stream|document separator)", "a quote is opened and not closed"),
    (
        r"expected escape sequence|found unknown escape character",
        "in double quotes \\ begins an escape: write \\\\, or use single quotes",
    ),
    (
        r"chomping or indentation indicators|indentation indicator in the range",
        "text must begin on the line after | or >",
    ),
    (r"expected ',' or '([\]}])'", "a comma or a {0} is missing"),
    (r"expected <block end>", "the line is not aligned with those above it"),
    (r"expected the node content", "a value is missing"),
    (r"expected '<document start>'", "documents must be separated by a line with ---"),
    (r"incompatible YAML document", "the version after %YAML must be 1.1 or 1.2"),
    (r"duplicate (?:YAML directive|tag handle)", "a line with % stands twice: remove it"),
    (
        r"expected a digit|expected ' '|expected a comment or a line break",
        "a comment needs a blank before its #; a text that begins with % or | needs quotes",
    ),
    (
        r"undefined tag handle|expected URI|expected '!'|expected '>'",
        "quote a text that begins with !",
    ),
    (r"constructor for the tag 'tag:yaml.org,2002:(.*)'", "the tag !!{0} is not read: remove it"),
    (r"constructor for the tag '(.*)'", "the tag {0} is not read: remove it"),
    (r"second occurrence", "the anchor stands twice in one document"),
    (r"recursive node", "an anchor holds itself"),
    (r"unhashable key", "the name of a field must be text, no list and no object"),
    (r"for merging", "<< takes an object or a list of objects"),
    (
        r"expected a (?:scalar|sequence|mapping) node",
        "the tag before the value is of another kind: remove it",
    ),
)
"""What PyYAML says -> what is to be said; {0} is the group."""
OTHERWISE = "what stands here cannot be read"
WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text in UTF-8",
}
"""Last word of a tag -> what its value must be."""
DIGITS = 30
"""Characters of a number from which on it is too long, not misspelt."""
BINARY = ((b"PK\x03\x04", "a ZIP file"), (b"\x1f\x8b", "a gzip file"), (b"%PDF", "a PDF"))


class Misplaced(yaml.MarkedYAMLError):
    """A fault that this package found, with its own sentence."""

    def __init__(self, text: str, node: yaml.Node) -> None:
        super().__init__(problem=text, problem_mark=node.start_mark)


def unfitting(node: yaml.Node) -> Misplaced:
    """The fault of a value that is not of the kind that its form or its tag says."""
    kind, text = str(node.tag).rpartition(":")[2], str(node.value)
    if kind == "int" and len(text) > DIGITS:
        return Misplaced(f"a number of {len(text)} digits is too long", node)
    return Misplaced(f"must be {WANTED.get(kind, kind)}, not {value(text)}", node)


def why_unreadable(error: yaml.YAMLError, text: bytes) -> str:
    """The rest of a sentence that begins with the name of the file: place, and what is wrong."""
    if b"{{" in text:
        return "is no YAML: it looks like a template: give what `helm template` makes of it"
    for start, kind in BINARY:
        if text.startswith(start):
            return f"is no YAML: it is {kind}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"is no YAML{_character(error, text)}"
    mark = getattr(error, "problem_mark", None)
    said = str(getattr(error, "problem", ""))
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"is no YAML{where}: {said if isinstance(error, Misplaced) else _sentence(error, said)}"


def _sentence(error: yaml.YAMLError, said: str) -> str:
    for pattern, sentence in SENTENCES:
        if found := re.search(pattern, said):
            opened = getattr(error, "context_mark", None)
            closing = said.startswith("expected ','") or "quote is opened" in sentence
            since = f" (opened at line {opened.line + 1})" if opened and closing else ""
            return sentence.format(*found.groups()) + since
    return OTHERWISE


def _character(error: yaml.reader.ReaderError, text: bytes) -> str:
    """Where the character is that no YAML can hold."""
    if error.encoding != "unicode":  # its place is one of bytes: they are no characters
        line = text[: error.position].count(b"\n") + 1
        return f" at line {line}: it is no text in UTF-8 or UTF-16: save it as UTF-8"
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(text[:2], "utf-8")
    before = text.decode(encoding, "replace")[: error.position].removeprefix("\ufeff")
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    code = int(error.character)
    kind = "a NUL byte" if code == 0 else f"the control character U+{code:04X}"
    return f" at line {line}, column {column}: it holds {kind}, which no text has: remove it"
