"""What diffusion-pipe's dataset.toml says of a folder's clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from wan_runtime.data.formats.text import invalid, keys_of, load_toml, quoted, read_text
from wan_runtime.data.source import Source
from wan_runtime.errors import InputError

SIZES = frozenset(
    {
        "size_buckets", "resolutions", "ar_buckets", "frame_buckets", "enable_ar_bucket", "min_ar",
        "max_ar", "num_ar_buckets",
    }
)  # fmt: skip
REFUSED = {
    "mask_path": "all of a picture is trained on",
    "default_mask_file": "all of a picture is trained on",
    "control_path": "diffusion-pipe's pairs of pictures are not trained on",
    "shuffle_tags": "captions are trained on as they are written",
    "cache_shuffle_num": "captions are trained on as they are written",
}
"""Keys that change what is trained, and what holds here."""
READ = frozenset({"path", "directory", "caption_prefix", "num_repeats", "skip_empty_caption"})


@dataclass(frozen=True, slots=True)
class Directory:
    """A [[directory]]."""

    path: str
    """Below the dataset's root; empty: the root itself."""
    prefix: str
    """Before each caption."""

    def holds(self, path: str) -> bool:
        """Whether a file is in it, or in a folder of it."""
        return not self.path or path.startswith(f"{self.path}/")


@dataclass(frozen=True, slots=True)
class Setup:
    """How the clips of a folder are to be read."""

    directories: tuple[Directory, ...] = (Directory("", ""),)
    file: str | None = None
    """It is said in. None: nowhere."""
    notes: tuple[str, ...] = ()
    seen: frozenset[str] = frozenset()
    """All TOML of which it is known whether it counts."""

    def directory(self, path: str) -> Directory | None:
        """The innermost that holds a file; None if none does, so that it is not trained on."""
        holding = [each for each in self.directories if each.holds(path)]
        return max(holding, key=lambda each: len(each.path), default=None)


def read_setup(source: Source, paths: Sequence[str]) -> Setup:
    """What the TOML in the root says. Those of other tools are left alone.

    Raises InputError(DATASET_INVALID) for what changes what is trained on and is not done here."""
    setups, notes, seen = [], [], set()
    for name in paths:
        if "/" in name or not name.lower().endswith(".toml"):
            continue
        seen.add(name)
        try:
            content = load_toml(name, read_text(source, name))
        except InputError as error:
            notes.append(f"left out: {error.message}")
            continue
        if isinstance(content.get("datasets"), list):
            notes.append(f"left out: {name} is musubi-tuner's, for dataset.format: Musubi")
        elif _is_dataset(content):
            setups.append((name, content))
        else:
            seen.remove(name)
    if len(setups) > 1:
        both = ", ".join(name for name, _ in setups)
        raise invalid(both, "are several of diffusion-pipe: leave the one to train on")
    setup = _setup(*setups[0], paths) if setups else Setup()
    return replace(setup, notes=(*notes, *setup.notes), seen=frozenset(seen))


def _is_dataset(content: dict[str, Any]) -> bool:
    directories = content.get("directory")
    listed = isinstance(directories, list) and any(isinstance(each, dict) for each in directories)
    return listed or bool((SIZES | set(REFUSED) | {"caption_prefix"}) & set(content))


def _setup(name: str, content: dict[str, Any], paths: Sequence[str]) -> Setup:
    listed = content.get("directory", [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise invalid(name, "has directory, which is no [[directory]]")
    general = {key: value for key, value in content.items() if key != "directory"}
    tables = [general | each for each in listed] or [general]
    for table in tables:
        for key, holds in REFUSED.items():
            if table.get(key):
                raise invalid(name, f"has {key} {quoted(table[key])}: {holds}; remove it")
        if table.get("skip_empty_caption") is False:
            said = "a clip without a caption is rejected; training.captionDropoutPercent shows none"
            raise invalid(name, f"has skip_empty_caption false: {said}: remove it")
    notes = repeats(name, "num_repeats", [table.get("num_repeats", 1) for table in tables])
    keys = {key for table in tables for key in table}
    if stated := sorted(keys & SIZES):
        said = f"of {name} the sizes are not used ({keys_of(stated)})"
        notes.append(f"{said}: clips are cut to dataset.buckets")
    if unread := sorted(keys - READ - set(REFUSED) - SIZES):
        notes.append(f"of {name} these keys are not used: {keys_of(unread)}")
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    directories = tuple(
        Directory(_below(name, table, folders, len(listed)), _prefix(name, table))
        for table in tables
    )
    return Setup(directories, name, tuple(notes))


def repeats(name: str, key: str, values: Iterable[Any]) -> list[str]:
    """A note on how often clips are repeated. Raises InputError(DATASET_INVALID) if some are
    repeated more than others."""
    stated = list(dict.fromkeys(map(repr, values)))
    if len(stated) > 1:
        said = "every clip counts once here; remove them"
        raise invalid(name, f"has {key} {', '.join(stated)}: {said}")
    if stated == ["1"]:
        return []
    return [f"{key} {stated[0]} of {name} is not used: training.datasetRepeat says it"]


def _prefix(name: str, table: dict[str, Any]) -> str:
    prefix = table.get("caption_prefix", "")
    if not isinstance(prefix, str):
        raise invalid(name, f"has caption_prefix {quoted(prefix)}: it is a text in quotes")
    return prefix


def _below(name: str, table: dict[str, Any], folders: set[str], count: int) -> str:
    """The path of a directory below the root. Often it is of another machine: then the folder that
    ends as it does, or, of the only directory, the root."""
    if not count:
        return ""
    path = table.get("path")
    if not isinstance(path, str):
        raise invalid(name, f"has a [[directory]] with path {quoted(path)}: it is a text in quotes")
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if not parts:
        return ""
    for begin in range(len(parts)):
        tail = "/".join(parts[begin:])
        if tail in folders:
            return tail
    if count == 1:
        return ""
    raise invalid(
        name,
        f"has the [[directory]] {quoted(path)}, and below dataset.source no folder is called so: "
        "write its path there",
    )
