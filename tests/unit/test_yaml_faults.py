"""What `kubectl wan` says to text that is no YAML, or YAML of values that no resource has."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import yaml.composer
import yaml.constructor
import yaml.parser
import yaml.scanner
from tests.words import library_words

from wan_operator.kubectl.__main__ import main
from wan_operator.yaml_faults import OTHERWISE, why_unreadable
from wan_operator.yaml_files import DocumentError, yaml_documents

AT = "is no YAML at line"
UNREADABLE: list[tuple[bytes, str]] = [
    (b"a: b\nc: d\0e", f"{AT} 2, column 5: it holds a NUL byte, which no text has: remove it"),
    ("a: b\nc: d\0e".encode("utf-16"), f"{AT} 2, column 5: it holds a NUL byte"),
    (b"\xef\xbb\xbfa: \x07", f"{AT} 1, column 4: it holds the control character U+0007"),
    ("a: é\n".encode("latin-1"), f"{AT} 1: it is no text in UTF-8 or UTF-16: save it as UTF-8"),
    (b"a: 1\nb: \xff\n", f"{AT} 2: it is no text in UTF-8 or UTF-16: save it as UTF-8"),
    (b"PK\x03\x04\0", "is no YAML: it is a ZIP file"),
    (b"a: {{ .Values.a }}", "it looks like a template: give what `helm template` makes of it"),
    (b"a:\n\tb: 1\n", f"{AT} 2, column 1: a tab: indent with blanks"),
    (b"a: @b\n", f"{AT} 1, column 4: a text that begins with @ must stand in quotes"),
    (b"a: *.mp4\n", f"{AT} 1, column 5: quote a text that begins with *, & or %"),
    (b"a: *b\n", f"{AT} 1, column 4: *b stands for nothing: quote a text that begins with *"),
    (b"a: b: c\n", f"{AT} 1, column 5: a colon stands where none can: align the fields"),
    (b"a: 1\nb\nc: 2\n", f"{AT} 3, column 1: a line has no colon"),
    (b"a: 'b\nc: d\n", f"{AT} 3, column 1: a quote is opened and not closed (opened at line 1)"),
    (b'a: "C:\\Users"\n', f"{AT} 1, column 9: in double quotes \\ begins an escape: write \\\\"),
    (b"a: {b: 1\n", f"{AT} 2, column 1: a comma or a }} is missing (opened at line 1)"),
    (b"a: [1\n", f"{AT} 2, column 1: a comma or a ] is missing (opened at line 1)"),
    (b"a: ]\n", f"{AT} 1, column 4: a value is missing"),
    (b"a: |x\n  b\n", f"{AT} 1, column 5: text must begin on the line after | or >"),
    (b"a:\n  b: 1\n - c\n", f"{AT} 3, column 2: the line is not aligned with those above it"),
    (b"%YAML 3.0\n---\na: 1\n", f"{AT} 1, column 1: the version after %YAML must be 1.1 or 1.2"),
    (b"a: !!python/object:os.system {}\n", f"{AT} 1, column 4: the tag !!python/object:os.system"),
    (b"a: !Ref b\n", f"{AT} 1, column 4: the tag !Ref is not read: remove it"),
    (b"a: !!set {b}\n", f"{AT} 1, column 4: the tag !!set is not read: remove it"),
    (b"a: !!seq b\n", f"{AT} 1, column 4: the tag before the value is of another kind: remove it"),
    (b"a: !!map b\n", f"{AT} 1, column 4: the tag before the value is of another kind: remove it"),
    (b"a: !!int b\n", f'{AT} 1, column 4: must be a whole number, not "b"'),
    (b"a: !!float b\n", f'{AT} 1, column 4: must be a number, not "b"'),
    (b"a: !!bool 2\n", f'{AT} 1, column 4: must be true or false, not "2"'),
    (b"a: " + b"9" * 5000, f"{AT} 1, column 4: a number of 5000 digits is too long"),
    (b"a: 0x" + b"f" * 5000, f"{AT} 1, column 4: a number of 5002 digits is too long"),
    (b'a: "\\ud800"\n', f"{AT} 1, column 4: must be text in UTF-8, not"),
    (b"a: &b 1\nc: &b 2\n", f"{AT} 2, column 4: the anchor stands twice in one document"),
    (b"a: 1\na: 2\n", f"{AT} 2, column 1: a stands twice"),
    (b"{[1]: 2}\n", f"{AT} 1, column 2: the name of a field must be text, no list and no object"),
    (b"a: {<<: 5}\n", f"{AT} 1, column 9: << takes an object or a list of objects"),
]


@pytest.mark.parametrize(("content", "message"), UNREADABLE, ids=[each for _, each in UNREADABLE])
def test_the_place_and_what_to_write_are_said(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "mine.yml"
    file.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        yaml_documents(str(file))
    said = str(caught.value)
    assert said.startswith(f"{file} is no YAML")
    assert message in said
    assert library_words(said.replace(str(file), "")) == []
    assert "\n" not in said


def test_every_fault_of_pyyaml_has_a_sentence_of_ours() -> None:
    """Its sentences are those of its source, so that a release with a new one is noticed."""
    raising = (yaml.scanner, yaml.parser, yaml.composer, yaml.constructor.SafeConstructor)
    sources = "\n".join(inspect.getsource(each) for each in raising)
    texts = [
        node.value
        for node in ast.walk(ast.parse(sources))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(("found ", "expected ", "could not", "mapping ", "sequence "))
    ]
    assert len(texts) > 40
    unknown = [
        text
        for text in {each.replace("%r", "'x'").replace("%s", "x") for each in texts}
        if why_unreadable(yaml.MarkedYAMLError(problem=text), b"").endswith(OTHERWISE)
    ]
    # What is said before a cause, of a single document, and of !!omap and !!pairs.
    assert {each.partition(",")[0] for each in unknown} == {
        "found duplicate anchor 'x'; first occurrence",
        "expected a single document in the stream",
        "expected a sequence",
        "expected a mapping of length 1",
        "expected a single mapping item",
    }


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-13-45", "2026-13-45"),
        ("2026-01-31", "2026-01-31"),
        ("!!binary aGk=", "aGk="),
        ("5.0", 5),
        ("5.5", 5.5),
        ("1e3", 1000),
        ("1e-5", 1e-5),
        ("-.5", -0.5),
        ("1.", 1),
        ("1_0.5", 10.5),
        ("1_000", 1000),
        ("0777", 511),
        ("0o17", 15),
        ("08", 8),
        ("0x_1F", 31),
        ("-0b11", -3),
        ("1:30", "1:30"),
        ("12:30:45.5", "12:30:45.5"),
        ("=", "="),
        ("~", None),
        ("on", True),
        ("y", True),
        ("N", False),
    ],
)
def test_values_are_read_as_kubectl_reads_them(tmp_path: Path, written: str, read: object) -> None:
    """Its YAML has neither dates nor bytes, and its JSON but one kind of number."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"a: {written}\n")
    [document] = yaml_documents(str(file))
    assert document == {"a": read}
    assert type(document["a"]) is type(read)


HEAD = "apiVersion: wan-operator.dev/v1alpha1\nkind: WanFineTune\nmetadata: {name: mine}\n"
SPEC = "dataset: {source: s3://d/c}, model: {preset: Wan2.1-I2V-Tiny}"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (HEAD + "spec: hello", 'spec: must be an object, not "hello"'),
        (HEAD + "spec:", "spec: is missing"),
        (HEAD.replace("v1alpha1", "v1"), 'apiVersion: must be wan-operator.dev/v1alpha1, not "wan'),
        (HEAD.partition("\n")[2], "apiVersion: must be wan-operator.dev/v1alpha1, not null"),
        (HEAD.replace("{name: mine}", "5"), "metadata: must be an object, not 5"),
        (HEAD.replace("mine", "[1]"), "metadata.name: must be text, not [1]"),
        (HEAD.replace("name: mine", "generateName: 5"), "metadata.generateName: must be text"),
        (HEAD + f"spec: {{{SPEC}, ~: 1}}", 'unknown field "spec.null"'),
        (HEAD + f"spec: {{{SPEC}, training: {{steps: '5'}}}}", 'must be a whole number, not "5"'),
        (HEAD + f"spec: {{{SPEC}, training: {{steps: yes}}}}", "must be a whole number, not true"),
        (HEAD + f"spec: {{{SPEC}, training: {{steps: .inf}}}}", "must be a whole number, not Inf"),
        (HEAD + f"spec: {{{SPEC}, training: {{steps: 0}}}}", "spec.training.steps: must be at lea"),
        (HEAD + f"spec: {{{SPEC}, training: 2026-01-31}}", "spec.training: must be an object, not"),
    ],
)
def test_a_field_of_another_kind_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: str, message: str
) -> None:
    """As strictly as the API server does: what is planned can be applied."""
    file = tmp_path / "mine.yaml"
    file.write_text(document)
    assert main(["plan", "-f", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"kubectl wan: {file}, document 1")
    assert message in said
    assert library_words(said.replace(str(file), "")) == []


@pytest.mark.parametrize("clips", ["x", "0", "-1", "²", "1.5", "", "9" * 5000])
def test_a_number_of_clips_that_is_none(capsys: pytest.CaptureFixture[str], clips: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "-f", "-", f"--clips={clips}"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "argument --clips: must be a whole number of at least 1" in said
    assert len(said) < 500
    assert library_words(said) == []
