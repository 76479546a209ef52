"""Datasets of musubi-tuner: a JSON lines file, or a folder with captions beside the clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from wan_runtime.contract.dataset import Columns
from wan_runtime.data.formats.diffusion_pipe import repeats
from wan_runtime.data.formats.inventory import not_found
from wan_runtime.data.formats.json_text import json_lines
from wan_runtime.data.formats.left_out import notes_on
from wan_runtime.data.formats.musubi_toml import path_in, read_datasets, sizes, unused
from wan_runtime.data.formats.rows import Listing, Row, Wanted, make_row
from wan_runtime.data.formats.sidecars import read_sidecars, row_beside, shared
from wan_runtime.data.formats.suffixes import is_junk, is_video, stem
from wan_runtime.data.formats.text import invalid, keys_of, quoted, read_text
from wan_runtime.data.source import Source


def read(source: Source, columns: Columns) -> Listing:
    """The rows of all datasets of the one TOML file in the root, in its order.

    Of `columns` only the optional ones are looked for, in JSON lines."""
    paths = [found.path for found in source.files() if not is_junk(found.path)]
    names = [path for path in paths if path.lower().endswith(".toml") and "/" not in path]
    if not names:
        raise not_found(source, "*.toml", "Musubi")
    if len(names) > 1:
        raise invalid(", ".join(names), "are several: leave one .toml in dataset.source")
    name = names[0]
    reader = _Reader(source, columns, name)
    datasets = read_datasets(name, read_text(source, name))
    counts = [dataset.get("num_repeats", 1) for _, dataset in datasets]
    notes = [*repeats(name, "num_repeats", counts), *unused(name, datasets)]
    for where, dataset in datasets:
        wanted, said = sizes(where, dataset)
        notes += said
        notes += reader.read(where, dataset, wanted)
    return Listing(
        name,
        tuple(reader.rows),
        tuple(reader.files),
        tuple(dict.fromkeys(notes)),
        numbered=any("video_jsonl_file" in dataset for _, dataset in datasets),
    )


class _Reader:
    """Gathers the rows of one dataset after another."""

    def __init__(self, source: Source, columns: Columns, name: str) -> None:
        self._source = source
        self._columns = columns.model_copy(
            update={
                "video": "video_path", "prompt": "caption", "control_video": "control_path",
                "vace_video": "",
            }
        )  # fmt: skip
        self.files = [name]
        """Read so far, besides clips."""
        self.rows: list[Row] = []

    def read(self, where: str, dataset: Mapping[str, Any], wanted: Wanted | None) -> list[str]:
        """Takes the rows of a dataset, and returns notes. Raises InputError(DATASET_INVALID)."""
        if "video_jsonl_file" in dataset:
            return self._listed(where, dataset, wanted)
        return self._in_folder(where, dataset, wanted)

    def _listed(self, where: str, dataset: Mapping[str, Any], wanted: Wanted | None) -> list[str]:
        path = path_in(where, dataset, "video_jsonl_file", self._source)
        if self._source.size(path) is None:
            raise invalid(where, f"names {path}, which does not exist: {self._source.uri(path)}")
        self.files.append(path)
        unread: dict[str, None] = {}
        for line, record in json_lines(path, read_text(self._source, path)):
            for key in ("video_path", "caption"):
                if key not in record:
                    raise invalid(path, f"line {line} lacks {key}; its keys: {keys_of(record)}")
            place = f"{path} line {line}"
            self.rows.append(
                make_row(len(self.rows) + 1, place, record, self._columns, wanted=wanted)
            )
            unread |= dict.fromkeys(record)
        others = [key for key in unread if key not in self._columns.model_dump().values()]
        return [f"of {path} these keys are not read: {keys_of(others)}"] if others else []

    def _in_folder(
        self, where: str, dataset: Mapping[str, Any], wanted: Wanted | None
    ) -> list[str]:
        """Add a row for each clip of a folder and return notes on its files. Subfolders are not
        read, as in musubi-tuner."""
        folder = path_in(where, dataset, "video_directory", self._source)
        there = {
            found.path: found.bytes
            for found in self._source.files(folder)
            if PurePosixPath(found.path).parent == PurePosixPath(folder)
        }
        videos = [path for path in sorted(there) if is_video(path)]
        if not videos:
            uri = self._source.uri(folder)
            raise invalid(where, f"names {folder or '.'}, which holds no video: {uri}")
        suffix = str(dataset.get("caption_extension", ".txt"))
        if not suffix.startswith(".") or "/" in suffix:
            raise invalid(where, f"has caption_extension {quoted(suffix)}; it begins with a dot")
        control = self._controls(where, dataset)
        captions = read_sidecars(self._source, videos, there, (suffix,))
        for video, caption in zip(videos, captions, strict=True):
            number = len(self.rows) + 1
            row = row_beside(number, video, caption, control_video=control(video), wanted=wanted)
            self.rows.append(row)
        files = [caption.file for caption in captions if caption.file is not None]
        self.files += files
        left = notes_on(there, {*videos, *self.files}, (suffix.lower(),))
        return [*shared(videos, captions), *left]

    def _controls(self, where: str, dataset: Mapping[str, Any]) -> Callable[[str], str]:
        """Finds the control video of a clip: of its name, else with another suffix."""
        if "control_directory" not in dataset:
            return lambda video: ""
        folder = path_in(where, dataset, "control_directory", self._source)
        there = {found.path for found in self._source.files(folder) if is_video(found.path)}
        by_stem = {stem(path): path for path in sorted(there)}

        def control(video: str) -> str:
            path = str(PurePosixPath(folder) / PurePosixPath(video).name)
            return path if path in there else by_stem.get(stem(path), path)

        return control
