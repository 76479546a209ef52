"""How many tokens a caption has, as the text encoder counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ModelSpec

TOKENIZER = "google/umt5-xxl/tokenizer.json"
"""In the folder of the base model."""
TOKENS = 512
"""Tokens that the model reads, the end token included. The rest of a caption is lost."""
CHARACTERS_A_TOKEN = 4
"""Characters of English text per token, where no tokenizer is at hand; other languages have
fewer."""

Count = Callable[[str], int]


def caption_counter(model: ModelSpec, store: Store, work: Path) -> Count:
    """Counts the tokens of a caption with the model's own tokenizer, which every release has. A
    Tiny preset is made in later steps and has none yet: a token for every four characters.

    A model that is not there, or not whole, is no error here: the import beside this step says so.
    """
    path = _tokenizer(model, store, work)
    if path is None:
        return estimate
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(" ".join(text.split())).ids)


def estimate(text: str) -> int:
    """Tokens of a caption, about."""
    return -(-len(text) // CHARACTERS_A_TOKEN)


def _tokenizer(model: ModelSpec, store: Store, work: Path) -> Path | None:
    if model.path is not None:
        path = Path(model.path) / TOKENIZER
        return path if path.is_file() else None
    if model.source is None:
        return None
    bucket, prefix = store.for_uri(model.source), store.parse(model.source)[1]
    key = f"{prefix}/{TOKENIZER}".lstrip("/")
    if bucket.stat(key) is None:
        return None
    path = work / "tokenizer.json"
    bucket.download(key, path)
    return path
