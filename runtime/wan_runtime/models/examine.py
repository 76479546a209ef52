"""Whether a place holds a preset's base model, before any of it is fetched or hashed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.model_parts import TEXT_ENCODER, dit_part
from wan_runtime.model_parts import TOKENIZER as TOKENIZER_PART
from wan_runtime.models import hints, shapes, tokenizer
from wan_runtime.models.headers import Header, joined
from wan_runtime.models.layout import EXPERT_FOLDERS, TOKENIZER, Found, find
from wan_runtime.models.places import Place
from wan_runtime.presets import Preset

COMPARED = "head.modulation"
"""A small tensor that training changes: two experts never share it."""


def examine(preset: Preset, place: Place) -> dict[str, tuple[str, ...]]:
    """Part -> its files. Reads headers alone, and the tokenizer's texts.

    Raises:
        InputError: MODEL_NOT_FOUND with what is missing, and what there is instead; MODEL_INVALID
            with all files that are something else, what they are and what to do.
    """
    found = find(preset, place.sizes)
    headers, faults = _headers(preset, place, found)
    faults += _unfinished(place, found)
    if found.missing:
        missing = f"{place.where} does not hold {preset.name}: missing {found.text}"
        lines = [missing, *hints.of(preset, place, found, faults)]
        raise InputError(Reason.MODEL_NOT_FOUND, _sentences(lines))
    faults = faults or _twins(preset, headers, place) or _tokenizer(preset, place, found)
    if faults:
        raise InputError(Reason.MODEL_INVALID, _sentences(faults))
    return found.parts


def _sentences(lines: list[str]) -> str:
    return " ".join(f"{line.rstrip('.')}." for line in lines)


def _headers(
    preset: Preset, place: Place, found: Found
) -> tuple[dict[str, dict[str, Header]], list[str]]:
    """Part -> file -> header, and what is wrong with them."""
    headers: dict[str, dict[str, Header]] = {}
    faults: list[str] = []
    for part, names in found.parts.items():
        if part == TOKENIZER_PART or not names:
            continue
        try:
            headers[part] = {name: place.header(name) for name in names}
            if part not in found.missing:  # shards that are missing are named as such
                whole = joined(headers[part])
                shapes.check(preset, part.split("-")[0], ", ".join(names), whole)
        except InputError as error:
            faults.append(error.message)
    return headers, faults


def _unfinished(place: Place, found: Found) -> list[str]:
    """aria2 sets a file's space aside, whole, and writes pieces of it anywhere: its header may be
    right long before its data are."""
    return [
        f"{name} is not downloaded to its end: {name}.aria2 beside it says so. Let aria2 go on"
        for names in found.parts.values()
        for name in names
        if f"{name}.aria2" in place.sizes
    ]


def _twins(preset: Preset, headers: Mapping[str, Mapping[str, Header]], place: Place) -> list[str]:
    """Two experts of the same weights: one was copied into both folders."""
    if len(preset.experts) < 2:
        return []
    samples = [_sample(headers[dit_part(expert)], place) for expert in preset.experts]
    if samples[0] is None or samples[0] != samples[1]:
        return []
    folders = " and ".join(EXPERT_FOLDERS[expert] for expert in preset.experts)
    return [
        f"{folders} hold the same weights: one of two experts was copied twice. Fetch the other"
    ]


def _sample(headers: Mapping[str, Header], place: Place) -> bytes | None:
    for name, header in headers.items():
        tensor = header.tensors.get(COMPARED)
        if tensor is not None and tensor.place is not None:
            begin, end = tensor.place
            return place.read(name, begin, end - begin)
    return None


def _tokenizer(preset: Preset, place: Place, found: Found) -> list[str]:
    rows = shapes.expected(preset, TEXT_ENCODER)["token_embedding.weight"][0]
    with tempfile.TemporaryDirectory(prefix="wan-tokenizer-") as scratch:
        for name in found.parts[TOKENIZER_PART]:
            if name.endswith(".json"):
                if place.sizes[name] > tokenizer.LIMIT:
                    return [f"{name} has {place.sizes[name]:,} bytes: it is no text of a tokenizer"]
                data = place.read(name, 0, place.sizes[name])
                (Path(scratch) / Path(name).name).write_bytes(data)
        try:
            tokenizer.require(Path(scratch), TOKENIZER, rows)
        except InputError as error:
            return [error.message]
    return []
