"""What a file of weights is by its first bytes: whole, cut off, or no weights at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.models import shapes
from wan_runtime.models.headers import joined
from wan_runtime.models.pickles import unpickled
from weight_files import head, header, read_back

SMALL = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}
GOOD = save(SMALL, {"format": "pt"})
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9953000000\n"


def test_names_dtypes_shapes_and_metadata_are_read() -> None:
    found = read_back(GOOD)
    assert found.shapes == {"a": (2, 3), "b": (4,)}
    assert found.dtypes() == {"F32": 1, "BF16": 1}
    assert found.metadata == {"format": "pt"}
    begin, end = found.tensors["a"].place or (0, 0)
    assert GOOD[begin:end] == SMALL["a"].numpy().tobytes()


def test_no_more_than_the_header_is_read() -> None:
    beginning, size = head(header({f"blocks.{n}.weight": (5120, 5120) for n in range(400)}))
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, offset + length))
        assert offset + length <= len(beginning)
        return beginning[offset : offset + length]

    assert len(shapes.header_of(read, size, "x.safetensors").tensors) == 400
    assert size > 20e9
    assert len(asked) == 2


def entries(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The good file with another header."""
    length = int.from_bytes(GOOD[:8], "little")
    content = json.loads(GOOD[8 : 8 + length])
    change(content)
    text = json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + GOOD[8 + length :]


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty: its upload or download never began"),
    "lfs": (LFS, "is a pointer of git-lfs in place of the file of 9,953,000,000 bytes: run `git"),
    "lfs, Windows": (LFS.replace(b"\n", b"\r\n"), "is a pointer of git-lfs in place of the file"),
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(600), "is GGUF, quantised for ComfyUI-GGUF"),
    "html": (b"<!DOCTYPE html>\n<html>", "is a web page in place of the file"),
    "html, indented": (b"\n\n  <html lang='en'>", "is a web page in place of the file"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "is an XML text, such as a"),
    "json": (b'{"error":"Invalid credentials in Authorization header"}', "is a JSON text, such as"),
    "gzip": (b"\x1f\x8b\x08" + bytes(90), "is compressed by gzip: unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"x" * 90, "is compressed by zstd: unpack it"),
    "zip": (b"PK\x03\x04" + b"x" * 90, "is a pickle of torch under the name of a safetensors"),
    "pickle": (b"\x80\x02}q\x00." + b"x" * 90, "is a pickle of torch under the name of a safe"),
    "zeros": (bytes(4096), "begins with zeros: space was set aside for it"),
    "text": (b"Entry not found, try again later", "is no safetensors file: it begins with 45 6e"),
    "eight bytes": (GOOD[:8], "is no safetensors file"),
    "cut in its header": (GOOD[:100], "was cut off within its header: 100 of over"),
    "cut in its data": (GOOD[:-1], f"was cut off: it has {len(GOOD) - 1} of {len(GOOD)} bytes."),
    "more behind it": (GOOD + b"more", f"has 4 bytes behind its end at {len(GOOD)}"),
    "header of other text": (GOOD.replace(b"data_offsets", b"data_0ffsets"), "a damaged header"),
    "header cut": (GOOD.replace(b"}}", b"} "), "has a damaged header: fetch it again"),
    "no object": (entries(lambda e: e.update(a=[1])), "has a damaged header"),
    "no number": (entries(lambda e: e["a"].update(shape=["x", 3])), "has a damaged header"),
    "wrong shape": (entries(lambda e: e["a"].update(shape=[3, 3])), "has a damaged header"),
    "no dtype": (entries(lambda e: e["a"].pop("dtype")), "has a damaged header"),
    "nested": (b"\x10\x27" + bytes(6) + b'{"a":' + b"[" * 9995, "has a damaged header"),
    "gaps": (
        entries(lambda e: e["a"].update(shape=[1, 3], data_offsets=[0, 12])),
        "has a damaged header, with gaps between its tensors",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_whole_file_is_named(case: str) -> None:
    data, words = DAMAGED[case]
    with pytest.raises(InputError) as caught:
        read_back(data, "folder/model.safetensors")
    assert caught.value.reason is Reason.MODEL_INVALID
    assert caught.value.message.startswith("folder/model.safetensors ")
    assert words in caught.value.message
    assert not any(name in caught.value.message for name in ("Error:", "Traceback", "Expecting"))


def test_two_sets_of_shards_in_one_folder_are_refused() -> None:
    one = header({"a": (1,), "b": (1,)})
    assert joined({"1": one, "2": header({"c": (1,)})}).shapes.keys() == {"a", "b", "c"}
    with pytest.raises(InputError, match="1 and 2 both hold b: they are of two sets"):
        joined({"1": one, "2": header({"b": (1,)})})


class Ranges:
    """A file as a store would give it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    def __call__(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return self.data[offset : offset + length]


def pickled(content: Any, folder: Path, **how: Any) -> bytes:
    torch.save(content, folder / "made.pth", **how)
    return (folder / "made.pth").read_bytes()


def test_a_pickle_is_looked_at_without_its_data(tmp_path: Path) -> None:
    wide = torch.zeros(2**20, 2, dtype=torch.bfloat16)
    content = {"blocks.0.weight": wide, "norm": torch.ones(3), "low": wide.to(torch.float8_e4m3fn)}
    file = Ranges(pickled({"state_dict": content}, tmp_path))
    found = shapes.header_of(file, len(file.data), "made.pth")
    assert found.shapes == {"blocks.0.weight": (2**20, 2), "norm": (3,), "low": (2**20, 2)}
    assert [each.dtype for each in found.tensors.values()] == ["BF16", "F32", "F8_E4M3"]
    assert file.read_bytes < len(file.data) / 50


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run by unpickling",))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: pickled(SMALL, folder)[:-200], "cannot be read by torch: was it cut off?"),
        (lambda folder: pickled(SMALL, folder)[:600], "cannot be read by torch: was it cut off?"),
        (lambda folder: pickled({"a": Evil()}, folder), "holds more than tensors, which is not"),
        (lambda folder: pickled([1, 2], folder), "is no file of named tensors"),
        (lambda folder: pickled({"a": 1}, folder), "is no file of named tensors"),
        (
            lambda folder: pickled(SMALL, folder, _use_new_zipfile_serialization=False),
            "is of torch before 1.6: load it with torch, and torch.save it again",
        ),
        (lambda folder: b"", "is empty"),
        (lambda folder: LFS, "is a pointer of git-lfs"),
        (lambda folder: b"<html>", "is a web page"),
        (lambda folder: b"GGUF" + bytes(90), "is GGUF"),
        (lambda folder: GOOD, "is a safetensors file under the name of a pickle"),
        (lambda folder: b"nothing of the kind", "is no file of torch: it begins with 6e 6f"),
    ],
)
def test_pickles_that_cannot_be_read_are_named(
    make: Callable[[Path], bytes], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same from afar, before it is fetched, and of the file."""
    data = make(tmp_path)
    with pytest.raises(InputError) as from_afar:
        shapes.header_of(Ranges(data), len(data), "T5.pth")
    path = tmp_path / "T5.pth"
    path.write_bytes(data)
    with pytest.raises(InputError) as here:
        unpickled(path, "T5.pth")
    for caught in (from_afar, here):
        assert caught.value.reason is Reason.MODEL_INVALID
        assert caught.value.message.startswith(f"T5.pth {words}")
    assert "run by" not in capsys.readouterr().out


def test_a_store_that_goes_away_is_no_fault_of_the_file(tmp_path: Path) -> None:
    data = pickled(SMALL, tmp_path)

    def read(offset: int, length: int) -> bytes:
        if offset:
            raise InfrastructureError(Reason.STORE_UNREACHABLE, "away")
        return data[:length]

    with pytest.raises(InfrastructureError, match="away"):
        shapes.header_of(read, len(data), "T5.pth")


def test_a_local_file_is_read_likewise(tmp_path: Path) -> None:
    save_file(SMALL, tmp_path / "x.safetensors")
    assert shapes.header_of_file(tmp_path / "x.safetensors").shapes == {"a": (2, 3), "b": (4,)}
