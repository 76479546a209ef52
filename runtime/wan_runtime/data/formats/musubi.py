"""The TOML of musubi-tuner: datasets of a JSON lines file, or of a folder with captions beside."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from wan_runtime.data.formats.folder import captions
from wan_runtime.data.formats.metadata import json_lines
from wan_runtime.data.formats.rows import (
    Listing,
    Row,
    Wanted,
    beside,
    invalid,
    is_video,
    not_found,
    plain,
    read_text,
)
from wan_runtime.data.source import Place, Source, path_fault
from wan_runtime.job import Columns

log = logging.getLogger(__name__)

READ = frozenset(
    {
        "video_jsonl_file",
        "video_directory",
        "control_directory",
        "caption_extension",
        "num_repeats",
        "resolution",
        "enable_bucket",
        "target_frames",
    }
)
"""All else in a dataset is about timing, batches or caches: the run's own spec says those."""


def read(source: Source, columns: Columns) -> Listing:
    """The rows of all datasets of the one TOML file in the root, in its order.

    Of `columns` only the optional ones are looked for, in JSON lines."""
    names = [found.path for found in source.files() if found.path.endswith(".toml")]
    names = [name for name in names if "/" not in name]
    if not names:
        raise not_found(source, "*.toml")
    if len(names) > 1:
        raise invalid(", ".join(names), "are several: leave one .toml in dataset.source")
    name = names[0]
    files = [name]
    rows: list[Row] = []
    for where, dataset in _datasets(name, read_text(source, name)):
        wanted = _wanted(where, dataset)
        read_rows = _listed if "video_jsonl_file" in dataset else _in_folder
        for fields in read_rows(source, where, dataset, columns, files):
            rows.append(Row(number=len(rows) + 1, wanted=wanted, **fields))
    return Listing(name, tuple(rows), tuple(files))


def _datasets(name: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(its name in messages, its keys and the general ones) of each dataset."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise invalid(name, f"is no TOML: {error}") from error
    general, datasets = content.get("general", {}), content.get("datasets")
    if not isinstance(general, dict) or not isinstance(datasets, list) or not datasets:
        raise invalid(name, "has no [[datasets]]")
    for number, own in enumerate(datasets, 1):
        where = f"{name}, dataset {number},"
        dataset = {**general, **own}
        if not any(key in own for key in ("video_jsonl_file", "video_directory")):
            raise invalid(where, "has neither video_jsonl_file nor video_directory")
        if dataset.get("num_repeats", 1) != 1:
            raise invalid(where, "has num_repeats: every clip counts once; see training.epochs")
        if others := sorted(set(dataset) - READ):
            log.warning("%s not used, the run's spec says it: %s", where, ", ".join(others))
        yield where, dataset


def _wanted(where: str, dataset: Mapping[str, Any]) -> Wanted | None:
    """The sizes that a dataset states. With enable_bucket, its resolution only bounds the area."""
    size, lengths = dataset.get("resolution"), dataset.get("target_frames", [])
    if isinstance(size, int):
        size = [size, size]
    sides = [] if size is None else size
    if not _numbers(sides) or len(sides) not in (0, 2):
        raise invalid(where, f"has resolution {size!r}: it is one number, or [width, height]")
    if not _numbers(lengths):
        raise invalid(where, f"has target_frames {lengths!r}: it is a list of numbers")
    if not sides and not lengths:
        return None
    width, height = sides or (None, None)
    any_shape = dataset.get("enable_bucket") is True
    return Wanted(
        where=where.rstrip(","), width=width, height=height, any_shape=any_shape,
        lengths=tuple(lengths),
    )  # fmt: skip


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and each > 0 for each in value)


def _listed(
    source: Source, where: str, dataset: Mapping[str, Any], columns: Columns, files: list[str]
) -> Iterator[dict[str, Any]]:
    """Fields of the rows of a JSON lines file."""
    path = _path(where, dataset, "video_jsonl_file")
    if source.size(path) is None:
        raise invalid(where, f"names {path}, which does not exist: {source.uri(path)}")
    files.append(path)
    for line, record in json_lines(path, read_text(source, path)):
        video = plain(record.get("video_path"))
        if "video_path" not in record or "caption" not in record:
            raise invalid(path, f"line {line} lacks video_path or caption")
        yield {
            "video": Place(video),
            "prompt": plain(record["caption"]),
            "source": plain(record.get(columns.source)) or video,
            "first_frame": plain(record.get(columns.first_frame)),
            "control_video": plain(record.get("control_path")),
        }


def _in_folder(
    source: Source, where: str, dataset: Mapping[str, Any], columns: Columns, files: list[str]
) -> Iterator[dict[str, Any]]:
    """Fields of the rows of a folder's videos; of folders in it there are none, as in musubi."""
    folder = _path(where, dataset, "video_directory")
    control = _path(where, dataset, "control_directory") if "control_directory" in dataset else None
    there = {found.path for found in source.files(folder)}
    videos = [path for path in sorted(there) if is_video(path) and _directly(path, folder)]
    if not videos:
        raise invalid(where, f"names {folder}, which holds no video: {source.uri(folder)}")
    suffix = str(dataset.get("caption_extension", ".txt"))
    if not suffix.startswith(".") or "/" in suffix:
        raise invalid(where, f"has caption_extension {suffix!r}; it begins with a dot")
    sidecars = [beside(path, suffix) for path in videos]
    files.extend(path for path in sidecars if path in there)
    for video, prompt in zip(videos, captions(source, sidecars, there), strict=True):
        yield {
            "video": Place(video),
            "prompt": prompt,
            "source": video,
            "control_video": f"{control}/{PurePosixPath(video).name}" if control else "",
        }


def _directly(path: str, folder: str) -> bool:
    return PurePosixPath(path).parent == PurePosixPath(folder)


def _path(where: str, dataset: Mapping[str, Any], key: str) -> str:
    path = str(dataset[key])
    if (fault := path_fault(path)) is not None:
        raise invalid(where, f"has {key} {path!r}, which {fault}")
    return str(PurePosixPath(path))
