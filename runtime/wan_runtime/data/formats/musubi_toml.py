"""What musubi-tuner's TOML says of its datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from wan_runtime.data.formats.rows import Wanted
from wan_runtime.data.formats.text import invalid, keys_of, load_toml, quoted, short
from wan_runtime.data.source import Source, path_fault

READ = frozenset(
    {
        "video_jsonl_file", "video_directory", "control_directory", "caption_extension",
        "num_repeats", "resolution", "enable_bucket", "target_frames", "frame_extraction",
    }
)  # fmt: skip
UNUSED = frozenset(
    {
        "batch_size", "bucket_no_upscale", "cache_directory", "source_fps", "max_frames",
        "frame_stride", "frame_sample", "fp_latent_window_size", "debug_dataset",
    }
)  # fmt: skip
"""About timing, batches or caches: the run's own spec says those, and clips their own rate."""
PICTURES = ("image_directory", "image_jsonl_file")
LEAST = 5
"""Frames of the shortest clip that is trained on."""

Dataset = Mapping[str, Any]


def read_datasets(name: str, text: str) -> list[tuple[str, Dataset]]:
    """(its name in messages, its keys and the general ones) of each dataset.

    Raises InputError(DATASET_INVALID) for what changes what is trained on and is not done here."""
    content = load_toml(name, text)
    general, listed = content.get("general", {}), content.get("datasets")
    if not isinstance(general, dict) or not isinstance(listed, list) or not listed:
        raise invalid(name, f"has no [[datasets]]; at its top level: {keys_of(content)}")
    _refuse_unknown(name, content, {"general", "datasets"})
    datasets: list[tuple[str, Dataset]] = []
    for number, own in enumerate(listed, 1):
        where = f"{name}, dataset {number},"
        if not isinstance(own, dict):
            raise invalid(where, f"is {quoted(own)}, no [[datasets]]")
        for key in PICTURES:
            if key in own:
                said = "single pictures are not trained on; remove this dataset"
                raise invalid(where, f"has {key} {quoted(own[key])}: {said}")
        dataset: Dataset = general | own
        _refuse_unknown(where, dataset, READ | UNUSED)
        if not any(key in own for key in ("video_jsonl_file", "video_directory")):
            raise invalid(where, "has neither video_jsonl_file nor video_directory")
        _refuse_windows(where, dataset)
        datasets.append((where, dataset))
    return datasets


def unused(name: str, datasets: Iterable[tuple[str, Dataset]]) -> list[str]:
    """A note on the keys that have no effect here."""
    keys = sorted({key for _, dataset in datasets for key in dataset} & UNUSED)
    if not keys:
        return []
    said = "the run's spec and the clips' timestamps say it"
    return [f"of {name} these keys are not used, {said}: {', '.join(keys)}"]


def sizes(where: str, dataset: Dataset) -> tuple[Wanted | None, list[str]]:
    """The sizes that a dataset states, and notes on its lengths. With enable_bucket, its resolution
    only bounds the area. Lengths are rounded down to 4n+1, as musubi-tuner does.

    Raises InputError(DATASET_INVALID)."""
    size, lengths = dataset.get("resolution"), dataset.get("target_frames", [])
    if type(size) is int:
        size = [size, size]
    sides = [] if size is None else size
    if not _numbers(sides) or len(sides) not in (0, 2):
        raise invalid(where, f"has resolution {quoted(size)}: it is one number, or [width, height]")
    if not _numbers(lengths):
        raise invalid(where, f"has target_frames {quoted(lengths)}: it is a list of numbers")
    rounded = {length: length - (length - 1) % 4 for length in lengths}
    kept = {length: each for length, each in rounded.items() if each >= LEAST}
    if lengths and not kept:
        raise invalid(
            where,
            f"has target_frames {quoted(lengths)}, which are single pictures: they are not "
            f"trained on, clips have at least {LEAST} frames; remove this dataset",
        )
    notes = []
    for length, each in rounded.items():
        said = f"target_frames {length} of {where.rstrip(',')}"
        if each < LEAST:
            notes.append(f"left out: {said}: a single picture; clips have at least {LEAST} frames")
        elif length != each:
            notes.append(f"{said} is {each}: lengths are 4n+1, rounded down as in musubi-tuner")
    if not sides and not lengths:
        return None, notes
    width, height = sides or (None, None)
    wanted = Wanted(
        where=where.rstrip(","), width=width, height=height,
        any_shape=dataset.get("enable_bucket") is True,
        lengths=tuple(sorted(set(kept.values()))),
    )  # fmt: skip
    return wanted, notes


def path_in(where: str, dataset: Dataset, key: str, source: Source) -> str:
    """The path that a key names. Raises InputError(DATASET_INVALID) if it leaves the dataset, with
    what to write if files of the dataset have a path that ends it."""
    path = dataset[key]
    if not isinstance(path, str) or not path:
        raise invalid(where, f"has {key} {quoted(path)}: it is a path in quotes, '.' for all")
    path = str(PurePosixPath(path))
    if path == ".":
        return ""
    if (fault := path_fault(path)) is not None:
        below = ending_below(path, source)
        write = "" if below is None else f": write {below or '.'!r}"
        raise invalid(where, f"has {key} {quoted(path)}, which {fault}{write}")
    return path


def ending_below(path: str, source: Source) -> str | None:
    """The longest end of a path of another machine that a file or folder of the dataset has; empty
    if its last folder is the root's own name. None if there is neither."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    files = [PurePosixPath(found.path) for found in source.files()]
    there = {str(each) for file in files for each in (file, *file.parents)} - {"."}
    for begin in range(1, len(parts)):
        if (tail := "/".join(parts[begin:])) in there:
            return tail
    root = PurePosixPath(source.uri("")).name
    return "" if parts and parts[-1] == root else None


def _refuse_unknown(where: str, table: Dataset, known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            alike = get_close_matches(key, known, 1)
            meant = f"did you mean {alike[0]}?" if alike else "remove it"
            raise invalid(
                where, f"has the key {short(key)}, which musubi-tuner does not know here: {meant}"
            )


def _refuse_windows(where: str, dataset: Dataset) -> None:
    how = dataset.get("frame_extraction", "head")
    if how == "head":
        return
    if how == "full":
        write = "dataset.buckets with the lengths that are there"
    elif how == "uniform":
        count = dataset.get("frame_sample", 1)
        window = "First" if count == 1 else f"Spread with windowsPerClip: {count}"
        write = f"dataset.window: {window}"
    elif how in ("chunk", "slide"):
        write = "dataset.window: Spread with windowsPerClip: 2 or more"
    else:
        raise invalid(where, f"has frame_extraction {quoted(how)}, which musubi-tuner has not")
    raise invalid(
        where, f"has frame_extraction {quoted(how)}: set {write}, and remove it from the file"
    )


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and each > 0 for each in value)
