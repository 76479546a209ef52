"""Tables as spreadsheets, pandas and people write them, read or refused with the cause."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unit.runtime.test_formats import put
from wan_runtime.contract.dataset import Columns
from wan_runtime.data.dataset import Code
from wan_runtime.data.formats.metadata import read_rows
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.rows import Listing
from wan_runtime.errors import InputError


def listing(folder: Path, name: str, content: str | bytes) -> Listing:
    return read_listing(put(folder, {name: content}), "DiffSynth", Columns())


TWO = [("a.mp4", "x, y"), ("b.mp4", "é")]
TABLE = 'video,prompt\na.mp4,"x, y"\nb.mp4,é\n'


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        TABLE.encode("utf-32"),
        TABLE.replace("\n", "\r"),
        TABLE.replace("\n", "\r\n"),
        'video,prompt\na.mp4,"x, y" \nb.mp4,"é"\t\n',
        " video , prompt \na.mp4,\"x, y\"\nb.mp4,é\n",
        "video;prompt\na.mp4;x, y\nb.mp4;é\n",
        "video\tprompt\na.mp4\tx, y\nb.mp4\té\n",
        "sep=;\nvideo;prompt\na.mp4;x, y\nb.mp4;é\n",
        ',video,prompt\n0,a.mp4,"x, y"\n1,b.mp4,é\n',
        'video,prompt,source\na.mp4,"x, y"\nb.mp4,é\n',
        'video,prompt\na.mp4,"x, y",,\n,\n,,\nb.mp4,é,\n\n',
        '\n"video","prompt"\n"a.mp4","x, y"\n"b.mp4","é"',
    ],
)  # fmt: skip
def test_a_csv_of_any_spreadsheet_says_the_same(tmp_path: Path, content: str | bytes) -> None:
    rows = listing(tmp_path, "metadata.csv", content).rows
    assert [(row.video.path, row.prompt) for row in rows] == TWO
    assert [row.source for row in rows] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (TABLE.encode("cp1252"), "not UTF-8 in line 3: read as Windows-1252 it is 'b.mp4,é': save"),
        (TABLE.replace("\n", "\r").encode("cp1252"), "is not UTF-8 in line 3"),
        (TABLE.encode("utf-16-le"), "is no text, or UTF-16 without its mark, in line 1: save it a"),
        (TABLE.encode("utf-16")[:-1], "begins as UTF-16 and does not go on so: save it as UTF-8"),
        (b"PK\x03\x04...", 'is a workbook, a Word file or a zip archive: save the table as "CSV '),
        (b"\xd0\xcf\x11\xe0", "is an old Excel or Word file"),
        (b"\x1f\x8b..", "is compressed with gzip: unpack it"),
        ("version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS: run"),
        ('video,prompt\na,"x" y\n', "line 2: 'y' follows a closing quote: write quotes within a"),
        ('video,prompt\na, "x, y"\n', "2 has 3 fields, the header 2: leave out the blank before a"),
        ('video,prompt\na,x\nb,"y\n\nc,z\n', "line 3: the quote before 'y\\n\\nc,z' is not closed"),
        ("video;prompt\na;x;y\n", "put captions that hold semicolons into double quotes"),
        ('video,prompt\n"a\nb",x\nc,d,e\n', "line 4 has 3 fields, the header 2: put captions that"),
        ("video|prompt\na|x\n", "has '|' between its fields: commas, semicolons and tabs are read"),
        ("sep=|\nvideo|prompt\na|x\n", "has '|' between its fields: commas, semicolons and tabs"),
        ("video,prompt\na,“x, y”\n", 'line 2: “ is no ": write " around a field that holds commas'),
        ("video,prompt,source\na,“x, y”\n", 'line 2: “ is no ": write " around a field that holds'),
        ("video;prompt;x\na;„x; y“\n", 'line 2: „ is no ": write " around a field that holds semi'),
        ("\ufeff\n<!DOCTYPE html>\n<html>", "metadata.csv is a web page, not a table"),
        ("<html><p>video,prompt".encode("utf-16"), "metadata.csv is a web page, not a table"),
        (b'<?xml version="1.0"?>\n<HTML>\xff', "metadata.csv is a web page, not a table"),
        ("video,prompt,prompt\na,x,y\n", "has 2 columns 'prompt': rename the others"),
        ("in/a.mp4,a fox\nb.mp4,x\n", "begins with 'in/a.mp4', 'a fox': its first line names the"),
        ("file;Caption\na;b\n", "it has 'file', 'Caption': set dataset.columns.video: file"),
        ("file,VIDEO,prompt\na,b,c\n", "set dataset.columns.video: VIDEO"),
        ("video,Caption\na,b\n", "has no column 'prompt'; it has 'video', 'Caption': set "
         "dataset.columns.prompt: Caption"),
        ("file_name,text\na,b\n", "has no column 'video' and no column 'prompt'; it has "
         "'file_name', 'text': set dataset.columns.video: file_name and set "
         "dataset.columns.prompt: text"),
    ],
)  # fmt: skip
def test_ten_worst_csv_files(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        listing(tmp_path, "metadata.csv", content)
    assert caught.value.message.startswith("metadata.csv ")


RECORD = '{"video":"a","prompt":"x"}'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metadata.json", "", "line 1: is empty"),
        ("metadata.json", '[\n{"video":"a","prompt":"x', "line 2: a string is not closed"),
        ("metadata.json", '[{"video":', "line 1: ends in the middle of a value"),
        ("metadata.json", "[{'video':'a'}]", "strings and keys stand in double quotes, at \"'vid"),
        ("metadata.json", f"[{RECORD},\n]", "line 2: a comma before a closing bracket is one too"),
        ("metadata.json", '[{"video":"a",}]', "a comma before a closing bracket is one too many"),
        ("metadata.json", '[{"video":"a" "prompt":1}]', "a comma is missing, or a quote in a"),
        ("metadata.json", '[{"video" "a"}]', "a colon is missing, at '\"a\"}]'"),
        ("metadata.json", '[{"prompt":None}]', "the words of JSON are null, true and false, at 'N"),
        ("metadata.json", '[{"video":"clips\\c.mp4"}]', "holds a backslash: write / in paths"),
        ("metadata.json", '[{"prompt":"a\nb"}]', "a string holds a line break or a tab: write \\n"),
        ("metadata.json", f"{RECORD}\n{RECORD}", "holds JSON lines, an object a line: name it m"),
        ("metadata.json", "[" * 99_999, "is nested too deeply"),
        ("metadata.json", "9" * 5000, "holds a number of thousands of digits"),
        ("metadata.json", '[{"video":"a","video":"b"}]', "has the key 'video' twice in one object"),
        ("metadata.json", f'{{"data":[{RECORD}]}}', "leave only the list below 'data'"),
        ("metadata.json", '{"video":{"0":"a"},"prompt":{"0":"x"}}', "not a list of objects: write"),
        ("metadata.json", '"x"', "is '\"x\"', not a list of objects"),
        ("metadata.json", '[["a","x"]]', "entry 1 is '[\"a\", \"x\"]', not an object of names"),
        ("metadata.json", RECORD.replace("video", "file").join("[]"), "dataset.columns.video: fil"),
        ("metadata.json", '[{"video":"a","prompt":"x","source":["b","c"]}]',
         "entry 1 source is a list of 2: give one text"),
        ("metadata.json", "[é]".encode("latin-1"), "is not UTF-8 in line 1"),
        ("metadata.jsonl", f"[{RECORD}]", "is one list: JSON lines have an object a line"),
        ("metadata.jsonl", f"{RECORD}\n{RECORD} {RECORD}", "line 2: another value follows the fir"),
        ("metadata.jsonl", f"{RECORD}\n{{\n", "line 2: ends in the middle of a value"),
        ("metadata.jsonl", "video,prompt\na,b", "line 1: is no JSON, at 'video,prompt'"),
    ],
)  # fmt: skip
def test_ten_worst_json_files(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        listing(tmp_path, name, content)
    assert caught.value.message.startswith(f"{name} ")


@pytest.mark.parametrize(
    ("value", "prompt", "code", "says"),
    [
        ('"x"', "x", None, ""),
        ('" x "', "x", None, ""),
        ("7", "7", None, ""),
        ("1.5", "1.5", None, ""),
        ('["x"]', "x", None, ""),
        ("null", "", None, ""),
        ("NaN", "", None, ""),
        ('["x", "y"]', "", Code.CAPTION_INVALID, "its prompt is a list of 2: give one text"),
        ("[]", "", Code.CAPTION_INVALID, "is a list of 0: give one text"),
        ('{"en": "x"}', "", Code.CAPTION_INVALID, "its prompt is an object: give one text"),
        ("true", "", Code.CAPTION_INVALID, "its prompt is true or false: give one text"),
        ('"\\ud83d"', "", Code.CAPTION_INVALID, "holds half a character, \\ud83d: write it anew"),
        ('"None"', "", Code.CAPTION_EMPTY, "has no caption: 'None' stands for none"),
        ('["N/A"]', "", Code.CAPTION_EMPTY, "has no caption: 'N/A' stands for none"),
    ],
)
def test_a_caption_of_json_is_one_text(
    tmp_path: Path, value: str, prompt: str, code: Code | None, says: str
) -> None:
    text = f'[{{"video": "a.mp4", "prompt": {value}}}]'
    row = listing(tmp_path, "metadata.json", text).rows[0]
    assert row.prompt == prompt
    assert (row.fault and row.fault.code) == code
    assert says in (row.fault.message if row.fault else "")


def test_other_columns_that_hold_no_text_have_their_verdicts(tmp_path: Path) -> None:
    fields = {
        "video": Code.PATH_INVALID,
        "input_image": Code.FIRST_FRAME_INVALID,
        "control_video": Code.CONTROL_VIDEO_INVALID,
        "vace_video": Code.VACE_VIDEO_INVALID,
    }
    for field, code in fields.items():
        record = '{"video":"a","prompt":"x",' + f'"{field}":["b","c"]}}'
        text = record.replace('"video":"a",', "" if field == "video" else '"video":"a",')
        row = listing(tmp_path, "metadata.jsonl", text).rows[0]
        assert row.fault is not None
        assert row.fault.code is code
        assert row.fault.message == f"its {field} is a list of 2: give one text"


def test_words_for_a_missing_value_are_missing_in_every_column(tmp_path: Path) -> None:
    text = "video,prompt,source,input_image\na.mp4,x,None,N/A\nnull,y,s,\nb.mp4,#N/A,NaN,<NA>\n"
    rows = listing(tmp_path, "metadata.csv", text).rows
    assert [row.source for row in rows] == ["a.mp4", "s", "b.mp4"]
    assert [row.first_frame for row in rows] == ["", "", ""]
    assert [row.video.path for row in rows] == ["a.mp4", "", "b.mp4"]
    assert [row.fault and row.fault.code for row in rows] == [None, None, Code.CAPTION_EMPTY]


def test_columns_and_paths_that_may_surprise_are_noted(tmp_path: Path) -> None:
    found = listing(tmp_path, "metadata.csv", "video,prompt,style,fps\nin\\a.mp4,x,anime,16\n")
    assert found.notes == (
        "of metadata.csv these columns are not read: 'style', 'fps'",
        "1 path holds a backslash, read as / where no file is named so",
    )


def test_two_tables_are_one_too_many(tmp_path: Path) -> None:
    put(tmp_path, {"metadata.jsonl": RECORD})
    with pytest.raises(InputError, match=r"metadata\.csv and metadata\.jsonl are there: leave"):
        listing(tmp_path, "metadata.csv", TABLE)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            ["a.mp4", "My clips.xlsx"],
            'My clips.xlsx is a spreadsheet: save it as "CSV UTF-8" under',
        ),
        (["a.GIF"], "clips want captions: write metadata.csv with the columns video,prompt and"),
        (["a.mp4", "index.parquet"], 'index.parquet is Parquet: save it as "CSV UTF-8" under the'),
        (["a.mp4", "metadata.tsv"], "metadata.tsv may be the table: name it metadata.csv"),
        (["a.mp4", "metadata.csv.txt"], "metadata.csv.txt may be the table: name it metadata.csv"),
        (["a.mp4", "Clips.TSV.txt"], "Clips.TSV.txt may be the table: name it metadata.csv"),
        (["a.mp4", "metadata.json.txt"], "metadata.json.txt may be the table: name it metadata.js"),
        (["clips.zip"], "clips.zip is packed: unpack it"),
        (["a.mp4", "captions.csv"], "captions.csv may be the table: name it metadata.csv"),
        (["a.mp4", "Metadata.CSV"], "Metadata.CSV may be the table: name it metadata.csv"),
        (["set/a.mp4", "set/metadata.csv"], "set/metadata.csv is one folder deeper: end"),
        (["x/y/a.mp4", "x/y/metadata.csv"], "x/y/metadata.csv is 2 folders deeper: end"),
        (["a.mp4", "captions/a.txt"], "put captions/a.txt beside a.mp4"),
        (["a.mp4", "a.mp4.txt"], "name the caption a.txt, not a.mp4.txt"),
        (["a.mp4", "captions.json"], "that looks like dataset.format: Folder"),
        (["a.mp4", ".DS_Store", "._a.mp4", "Thumbs.db"], "It holds 1 .mp4; clips want captions"),
        ([".DS_Store", "._a.mp4"], "It holds nothing but hidden files: .DS_Store, ._a.mp4"),
        ([".a.mp4.icloud", ".DS_Store"], "1 file in iCloud only, to be downloaded first: a.mp4"),
    ],
)
def test_a_folder_without_a_table_says_what_to_write(
    tmp_path: Path, files: list[str], says: str
) -> None:
    source = put(tmp_path, dict.fromkeys(files, b""))
    with pytest.raises(InputError, match=re.escape(says)):
        read_listing(source, "DiffSynth", Columns())


def test_captions_that_are_there_are_not_asked_for(tmp_path: Path) -> None:
    source = put(tmp_path, {"a.mp4": b"", "captions.json": b""})
    with pytest.raises(InputError, match=r"looks like dataset\.format: Folder$"):
        read_listing(source, "DiffSynth", Columns())


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a.mp4", "b.txt"], "It holds 1 .mp4, 1 .txt"),
        (["a.mp4"], "with the columns video,prompt and a line for each clip, for "
         "dataset.format: DiffSynth, or that of a.mp4 into a.txt"),
        (["a.mp4", "metadata.csv.txt"], "name it metadata.csv, for dataset.format: DiffSynth"),
    ],
)  # fmt: skip
def test_the_format_that_was_asked_for_is_not_suggested(
    tmp_path: Path, files: list[str], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_listing(put(tmp_path, dict.fromkeys(files, b"")), "Folder", Columns())
    assert caught.value.message.endswith(says)
    assert "dataset.format: Folder" not in caught.value.message


def test_quotes_of_a_caption_are_kept() -> None:
    text = 'video,prompt,source\na,“x”,s\nb,“x” and “y”,“z”\nc,"“x, y”",s\n'
    rows = read_rows("metadata.csv", text, Columns())[0]
    assert [row.prompt for row in rows] == ["“x”", "“x” and “y”", "“x, y”"]


def test_keys_of_any_number_and_length_are_named(tmp_path: Path) -> None:
    keys = ", ".join(f'"{"k" * 99}{n}": 1' for n in range(40))
    found = listing(tmp_path, "metadata.json", f'[{{"video": "a", "prompt": "x", {keys}}}]')
    assert found.notes[0].endswith(f"'{'k' * 60}…' and 28 more")
    with pytest.raises(InputError, match=r"no column 'prompt'; it has 'video', .* and 29 more: "):
        listing(tmp_path, "metadata.json", f'[{{"video": "a", {keys}}}]')


def test_a_folder_with_a_table_is_not_told_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_listing(put(tmp_path, {"a.mp4": "", "metadata.csv": ""}), "Folder", Columns())
    assert caught.value.message.endswith(
        "1 .mp4, 1 .csv: that looks like dataset.format: DiffSynth"
    )
