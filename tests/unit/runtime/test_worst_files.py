"""The worst manifests and indexes of shards: refused with their address, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.errors import InputError
from wan_runtime.training import init_files
from words import library_words

INDEX = "model.safetensors.index.json"
WORST = {
    "empty": b"",
    "binary": bytes(range(256)),
    "a list": b"[]",
    "a number": b"7",
    "text": b'"files"',
    "null": b"null",
    "cut": b'{"kind": "weights", "weight_map": {"a": "b.safe',
    "in UTF-16": '{"weight_map": {}}'.encode("utf-16"),
    "nested": b"[" * 5000,
    "a NUL": b'{"weight_map": {"a\x00": "b"}}',
    "odd values": json.dumps({"kind": 7, "files": "x", "weight_map": [1, 2]}).encode(),
    "an odd map": json.dumps({"weight_map": {"a": None, "b": {"c": 1}}}).encode(),
    "a path outside": json.dumps({"weight_map": {"a": "../b.safetensors"}}).encode(),
    "no entry": json.dumps({"weight_map": {}}).encode(),
}


@pytest.mark.parametrize("content", WORST.values(), ids=WORST)
def test_a_manifest(store: Store, content: bytes) -> None:
    store.put_bytes("worst/m/manifest.json", content)
    with pytest.raises(ArtifactCorrupt) as refused:
        manifest.find(store, "worst/m")
    text = refused.value.message
    assert text.startswith("s3://wan/worst/m/manifest.json is no manifest: ")
    assert not library_words(text)
    assert len(text) < 400


@pytest.mark.parametrize("content", WORST.values(), ids=WORST)
def test_an_index_of_shards(store: Store, content: bytes, tmp_path: Path) -> None:
    store.put_bytes(f"worst/i/{INDEX}", content)
    with pytest.raises(InputError) as refused:
        init_files.fetch_shards("s3://wan/worst/i", store, f"worst/i/{INDEX}", tmp_path)
    text = refused.value.message
    assert text.startswith("initFrom: s3://wan/worst/i ")
    assert f"s3://wan/worst/i/{INDEX}" in text
    assert not library_words(text)
    assert not list(tmp_path.iterdir())
