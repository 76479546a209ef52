"""What an earlier commit wrote: see data/6a4b725/README.md."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from object_store import BUCKET, ObjectStore

FOLDER = Path(__file__).parent / "data" / "6a4b725"
ENDPOINT = "http://minio:9000"
"""Of the store in all that was written."""

RUN = "team/demo/5c1a7e00"
"""Prefix of the run whose training was stopped."""


def read(name: str) -> Any:
    """The content of a JSON file there."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def dump() -> str:
    """The queue's database as SQL."""
    return (FOLDER / "queue.sql").read_text()


def objects() -> dict[str, bytes]:
    """Those of the bucket, by key."""
    with zipfile.ZipFile(FOLDER / "store.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def upload(server: ObjectStore) -> None:
    """Put them where they were, with their metadata; the run has nothing else."""
    client, about = server.client(), read("store")
    for entry in client.list_objects(BUCKET, f"{RUN}/", recursive=True):
        client.remove_object(BUCKET, str(entry.object_name))
    for key, data in objects().items():
        client.put_object(
            BUCKET,
            key,
            io.BytesIO(data),
            len(data),
            content_type=about[key]["contentType"],
            metadata={
                name.removeprefix("x-amz-meta-"): value
                for name, value in about[key]["metadata"].items()
            },
        )


def rewrite_model(folder: Path) -> None:
    """Give a Tiny model the weights that the base model of the stored training had."""
    sys.path.insert(0, str(FOLDER))
    try:
        import tiny_model  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(FOLDER))
    tiny_model.rewrite(folder)
