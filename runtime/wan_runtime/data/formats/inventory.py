"""What is in a folder that is no dataset of the format, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import PurePosixPath

from wan_runtime.contract.dataset import DatasetFormat
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.formats.left_out import in_icloud, named
from wan_runtime.data.formats.suffixes import evicted, is_junk, is_video, suffix
from wan_runtime.data.source import Source
from wan_runtime.errors import InputError, StepError

EXAMINED = 1000
"""Files that an error message counts."""
TABLES = ("metadata.csv", "metadata.json", "metadata.jsonl")
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".parquet")
TABULAR = (".csv", ".tsv", ".jsonl")
ARCHIVES = (".zip", ".7z", ".rar", ".gz")


def not_found(source: Source, wanted: str, format: DatasetFormat) -> InputError:
    """There is no dataset of the format; says what there is instead."""
    paths = [found.path for found in islice(source.files(), EXAMINED)]
    plain = [path for path in paths if not is_junk(path)]
    away = sorted(filter(None, map(evicted, paths)))
    said = [_holds(paths, plain, format), *([in_icloud(away)] if away else advice(plain, format))]
    said += [] if paths else _elsewhere(source)
    return InputError(
        Reason.DATASET_NOT_FOUND,
        f"{source.uri('')} holds no {wanted}: check dataset.source and dataset.format. "
        f"It holds {'; '.join(said)}",
    )


def _elsewhere(source: Source) -> list[str]:
    """Where a dataset may be whose folder has no file."""
    uri, name = source.uri(""), PurePosixPath(source.key("")).name
    if not name:
        return []
    try:
        if source.size("") is not None:
            return ["it is a file: end dataset.source with the folder that it is in"]
        near = get_close_matches(name, [each for each in source.beside() if each != name], 1)
    except (StepError, OSError):  # only the dataset's own folder may be read
        return []
    return [f"there is a folder {uri.removesuffix(name)}{each}" for each in near]


def _holds(paths: Sequence[str], plain: Sequence[str], format: DatasetFormat) -> str:
    if paths and not plain:
        return f"nothing but hidden files: {named(paths)}"
    return inventory(plain, format)


def inventory(paths: Sequence[str], format: DatasetFormat) -> str:
    """`12 .mp4, 12 .txt, 1 .toml`, and the format that this looks like, if it is another."""
    if not paths:
        return "nothing at all"
    kinds = Counter(suffix(path) or "without suffix" for path in paths)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    more = " among the first files" if len(paths) == EXAMINED else ""
    names = {path for path in paths if "/" not in path}
    texts = any(suffix(path) == ".txt" and _table_name(path) is None for path in paths)
    alike: dict[DatasetFormat, bool] = {
        "DiffSynth": bool(names.intersection(TABLES)),
        "Musubi": any(suffix(name) == ".toml" for name in names),
        "WebDataset": bool(kinds[".tar"]),
        "Folder": any(map(is_video, paths)) and (texts or has_captions_json(paths)),
    }
    guess = next((each for each, is_alike in alike.items() if is_alike and each != format), None)
    return f"{counts}{more}" + (f": that looks like dataset.format: {guess}" if guess else "")


def has_captions_json(paths: Iterable[str]) -> bool:
    """Whether diffusion-pipe's file of captions is among them."""
    return any(PurePosixPath(path).name == "captions.json" for path in paths)


def advice(paths: Sequence[str], format: DatasetFormat) -> list[str]:
    """What makes a dataset of it."""
    if set(paths) & set(TABLES):
        return []
    said = []
    then = "" if format == "DiffSynth" else ", for dataset.format: DiffSynth"
    sheet = next((path for path in paths if suffix(path) in SPREADSHEETS), None)
    table = _table(paths)
    video = next(filter(is_video, paths), None)
    packed = next((path for path in paths if suffix(path) in ARCHIVES), None)
    if video is None and packed is not None:
        said.append(f"{packed} is packed: unpack it")
    elif sheet is not None:
        kind = "Parquet" if suffix(sheet) == ".parquet" else "a spreadsheet"
        said.append(f'{sheet} is {kind}: save it as "CSV UTF-8" under the name metadata.csv{then}')
    elif table is not None and "/" in table:
        deeper = "one folder" if table.count("/") == 1 else f"{table.count('/')} folders"
        said.append(f"{table} is {deeper} deeper: end dataset.source there")
    elif table is not None:
        said.append(f"{table} may be the table: name it {_table_name(table)}{then}")
    elif video is not None and f"{video}.txt" in paths:
        text = PurePosixPath(video).with_suffix(".txt")
        said.append(f"name the caption {text}, not {video}.txt")
    elif video is not None and (apart := _apart(video, paths)) is not None:
        said.append(f"put {apart} beside {video}")
    elif has_captions_json(paths) and format != "Folder":
        pass  # it is a folder of that format already
    elif video is not None and not any(suffix(path) == ".txt" for path in paths):
        text = PurePosixPath(video).with_suffix(".txt")
        either = "or" if format == "Folder" else "or, with dataset.format: Folder,"
        said.append(
            f"clips want captions: write metadata.csv with the columns video,prompt and a line for "
            f"each clip{then}, {either} that of {video} into {text}"
        )
    return said


def _apart(video: str, paths: Sequence[str]) -> str | None:
    """The one text file of a video's name, if it is in another folder."""
    pure = PurePosixPath(video)
    texts = [PurePosixPath(path) for path in paths if suffix(path) == ".txt"]
    found = [text for text in texts if text.stem == pure.stem]
    return str(found[0]) if len(found) == 1 and found[0].parent != pure.parent else None


def _table(paths: Sequence[str]) -> str | None:
    """The one path that may be meant by metadata.csv."""
    named = [path for path in paths if PurePosixPath(path).name.lower() in TABLES]
    others = [path for path in paths if "/" not in path and _table_name(path) is not None]
    found = named or others
    return found[0] if len(found) == 1 else None


def _table_name(path: str) -> str | None:
    """What a file is to be named to be the table; None if it is of no such kind. Windows hides the
    `.txt` of `metadata.csv.txt`."""
    name = PurePosixPath(path).name.lower().removesuffix(".txt")
    if name in TABLES:
        return name
    return f"metadata{suffix(name).replace('.tsv', '.csv')}" if suffix(name) in TABULAR else None
