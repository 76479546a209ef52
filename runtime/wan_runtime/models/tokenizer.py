"""umT5's tokenizer: loaded, and compared with the text encoder that reads its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffsynth.models.wan_video_text_encoder import HuggingfaceTokenizer

from wan_runtime.models.headers import BEGINNING, invalid, other_than_weights
from wan_runtime.models.layout import TOKENIZER_FILES

LENGTH = 512
"""Tokens of a caption, padded."""
LIMIT = 1 << 26
"""Bytes of a text; umT5's is 17 MB."""
SPARE = 1024
"""Rows of the text encoder without a token, at most: 84 of umT5's 256,384."""


def load(folder: Path, where: str = "") -> Any:
    """The tokenizer as diffsynth wraps it: 512 tokens, padded, whitespace cleaned.

    `where`: name of the folder for messages. Raises InputError(MODEL_INVALID).
    """
    where = where or str(folder)
    for file in TOKENIZER_FILES:
        name = Path(file).name
        _require_json(folder / name, f"{where}/{name}")
    try:
        made = HuggingfaceTokenizer(name=str(folder), seq_len=LENGTH, clean="whitespace")
        ids, _ = made(["a"], return_mask=True, add_special_tokens=True)
    except Exception as error:  # transformers and tokenizers each raise their own, KeyError too
        raise invalid(
            where,
            "is no tokenizer that transformers can load, with a token to pad with: fetch "
            "google/umt5-xxl of the release again",
        ) from error
    assert ids.shape == (1, LENGTH)
    return made


def require(folder: Path, where: str, rows: int) -> None:
    """Raises InputError(MODEL_INVALID), unless it is of a text encoder with `rows` tokens: with
    another's, captions would be other words.
    """
    found = len(load(folder, where).tokenizer)
    if not rows - SPARE <= found <= rows:
        raise invalid(
            where,
            f"is the tokenizer of another model: it has {found:,} tokens, and the text encoder "
            f"{rows:,}. Fetch google/umt5-xxl of the release",
        )


def _require_json(path: Path, name: str) -> None:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise invalid(name, "is missing") from error
    # Only what is there in place of it: of its own text the rest says whether it is sound.
    what = None if data[:1] == b"{" else other_than_weights(data[:BEGINNING], len(data))
    if what is None:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            what = "is no JSON: was it cut off? Fetch it again"
        else:
            what = None if isinstance(content, dict) else "is no JSON object: fetch it again"
    if what is not None:
        raise invalid(name, what)
