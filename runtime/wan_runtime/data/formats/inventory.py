"""What is in a folder that is no dataset of the format, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import PurePosixPath

from wan_runtime.data.formats.suffixes import is_junk, is_video, suffix
from wan_runtime.data.source import Source
from wan_runtime.errors import InputError
from wan_runtime.job import Reason

LOOKED_AT = 1000
"""Files that an error message counts."""
TABLES = ("metadata.csv", "metadata.json", "metadata.jsonl")
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".parquet")
TABULAR = (".csv", ".tsv", ".jsonl")
ARCHIVES = (".zip", ".7z", ".rar", ".gz")


def not_found(source: Source, wanted: str) -> InputError:
    """There is no dataset of the format; says what there is instead."""
    paths = [found.path for found in islice(source.files(), LOOKED_AT)]
    said = [inventory(paths), *advice([path for path in paths if not is_junk(path)])]
    return InputError(
        Reason.DATASET_NOT_FOUND,
        f"{source.uri('')} holds no {wanted}: check dataset.source and dataset.format. "
        f"It holds {'; '.join(said)}",
    )


def inventory(paths: Sequence[str]) -> str:
    """`12 .mp4, 12 .txt, 1 .toml`, and the format that this looks like."""
    if not paths:
        return "nothing at all"
    kinds = Counter(suffix(path) or "without suffix" for path in paths)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    more = " among the first files" if len(paths) == LOOKED_AT else ""
    names = {path for path in paths if "/" not in path}
    if names.intersection(TABLES):
        guess = "DiffSynth"
    elif any(suffix(name) == ".toml" for name in names):
        guess = "Musubi"
    elif kinds[".tar"]:
        guess = "WebDataset"
    elif any(map(is_video, paths)) and (kinds[".txt"] or has_captions_json(paths)):
        guess = "Folder"
    else:
        return counts + more
    return f"{counts}{more}: that looks like dataset.format: {guess}"


def has_captions_json(paths: Iterable[str]) -> bool:
    """Whether diffusion-pipe's file of captions is among them."""
    return any(PurePosixPath(path).name == "captions.json" for path in paths)


def advice(paths: Sequence[str]) -> list[str]:
    """What makes a dataset of it."""
    if set(paths) & set(TABLES):
        return []
    said = []
    sheet = next((path for path in paths if suffix(path) in SPREADSHEETS), None)
    table = _table(paths)
    video = next(filter(is_video, paths), None)
    packed = next((path for path in paths if suffix(path) in ARCHIVES), None)
    if video is None and packed is not None:
        said.append(f"{packed} is packed: unpack it")
    elif sheet is not None:
        kind = "Parquet" if suffix(sheet) == ".parquet" else "a spreadsheet"
        said.append(
            f'{sheet} is {kind}: save it as "CSV UTF-8" under the name metadata.csv, for '
            "dataset.format: DiffSynth"
        )
    elif table is not None and "/" in table:
        said.append(f"{table} is one folder deeper: end dataset.source there")
    elif table is not None:
        name = f"metadata{suffix(table).replace('.tsv', '.csv')}"
        said.append(f"{table} may be the table: name it {name}")
    elif video is not None and f"{video}.txt" in paths:
        text = PurePosixPath(video).with_suffix(".txt")
        said.append(f"name the caption {text}, not {video}.txt")
    elif video is not None and not any(suffix(path) == ".txt" for path in paths):
        text = PurePosixPath(video).with_suffix(".txt")
        said.append(
            f"clips want captions: write metadata.csv with the columns video,prompt and a line for "
            f"each clip, or, with dataset.format: Folder, that of {video} into {text}"
        )
    return said


def _table(paths: Sequence[str]) -> str | None:
    """The one path that may be meant by metadata.csv."""
    named = [path for path in paths if PurePosixPath(path).name.lower() in TABLES]
    others = [path for path in paths if "/" not in path and suffix(path) in TABULAR]
    found = named or others
    return found[0] if len(found) == 1 else None
