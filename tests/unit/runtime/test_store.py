"""The store against a real MinIO, also one that is killed in the middle."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from ports import free_port
from wan_runtime.artifacts.patience import Patience, Retrier
from wan_runtime.artifacts.store import PART_BYTES, ArtifactCorrupt, ObjectNotFound, Store
from wan_runtime.contract.job import StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_bytes_come_back_with_their_checksum(store: Store) -> None:
    data = os.urandom(1000)
    put = store.put_bytes("t/bytes", data)
    assert store.get_bytes("t/bytes") == data
    assert put == store.stat("t/bytes")
    assert put.sha256 == sha(data)
    assert put.bytes == 1000


def test_a_file_of_several_parts_comes_back(store: Store, tmp_path: Path) -> None:
    data = os.urandom(2 * PART_BYTES + 12345)
    (tmp_path / "up").write_bytes(data)
    put = store.put_file("t/parts", tmp_path / "up")
    got = store.download("t/parts", tmp_path / "new" / "down", sha256=sha(data), bytes=len(data))
    assert (tmp_path / "new" / "down").read_bytes() == data
    assert put == got == store.stat("t/parts")


def test_an_empty_object_is_an_object(store: Store, tmp_path: Path) -> None:
    store.put_bytes("t/empty", b"")
    assert store.download("t/empty", tmp_path / "empty").bytes == 0
    assert (tmp_path / "empty").read_bytes() == b""


def test_an_odd_key_survives(store: Store) -> None:
    key = "t/a clip (1)+ünïcode#100%.mp4"
    store.put_bytes(key, b"x")
    assert store.get_bytes(key) == b"x"
    assert key in [entry.key for entry in store.list("t/a clip")]


@pytest.mark.parametrize(
    ("expected", "text"),
    [({"sha256": "0" * 64}, "expected 000"), ({"bytes": 4}, "manifest says 4")],
)
def test_a_download_that_differs_leaves_nothing(
    store: Store, tmp_path: Path, expected: dict[str, object], text: str
) -> None:
    store.put_bytes("t/differs", b"12345")
    with pytest.raises(ArtifactCorrupt, match=text):
        store.download("t/differs", tmp_path / "file", **expected)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_checked_against_the_recorded_checksum(
    store: Store, server: ObjectStore, tmp_path: Path
) -> None:
    server.client().put_object("wan", "t/lied", io.BytesIO(b"a"), 1, metadata={"sha256": sha(b"b")})
    with pytest.raises(ArtifactCorrupt):
        store.download("t/lied", tmp_path / "file")


def test_a_missing_object_is_told_from_a_missing_bucket(
    store: Store, server: ObjectStore, credentials: None, tmp_path: Path
) -> None:
    assert store.stat("t/none") is None
    with pytest.raises(ObjectNotFound, match="s3://wan/t/none does not exist"):
        store.get_bytes("t/none")
    with pytest.raises(ObjectNotFound):
        store.download("t/none", tmp_path / "none")
    assert list(store.list("t/none")) == []
    absent = Store.connect(server.spec("absent"))
    for action in (absent.stat, absent.get_bytes, lambda key: list(absent.list(key))):
        with pytest.raises(InfrastructureError, match="has no bucket 'absent'") as caught:
            action("t/none")
        assert caught.value.reason is Reason.STORE_NOT_FOUND
        assert not isinstance(caught.value, ObjectNotFound)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_refused_credentials_fail_at_once_and_stay_secret(
    server: ObjectStore, credentials: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "wrong-0815")
    pauses = list[float]()
    store = Store.connect(server.spec(), patience=Patience(sleep=pauses.append))
    for action in (store.stat, store.get_bytes, lambda key: store.put_bytes(key, b"")):
        with pytest.raises(InfrastructureError) as caught:
            action("t/denied")
        assert caught.value.reason is Reason.STORE_ACCESS_DENIED
        for part in (server.endpoint, "'wan'", "accessKey", "secretKey"):
            assert part in caught.value.message
        for secret in ("wrong-0815", SECRET_KEY, ACCESS_KEY):
            assert secret not in caught.value.message
    assert pauses == []


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(InfrastructureError, match="AWS_ACCESS_KEY_ID") as caught:
        Store.connect(StoreSpec(endpoint="http://localhost", bucket="b"))
    assert caught.value.reason is Reason.STORE_ACCESS_DENIED


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://host", "http://host/path", "http://"]
)
def test_an_endpoint_that_is_no_url_is_named(credentials: None, endpoint: str) -> None:
    with pytest.raises(InfrastructureError, match="is not http") as caught:
        Store.connect(StoreSpec(endpoint=endpoint, bucket="b"))
    assert caught.value.reason is Reason.STORE_UNREACHABLE


def test_an_absent_store_is_given_up_with_one_line_a_wait(
    credentials: None, caplog: pytest.LogCaptureFixture
) -> None:
    spec = StoreSpec(endpoint=f"http://127.0.0.1:{free_port()}", bucket="wan")
    pauses: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    heard = list[str]()
    patience = Patience(sleep=sleep, clock=lambda: now[0], heard=heard.append)
    store = Store.connect(spec, patience=patience)
    with caplog.at_level(logging.WARNING), pytest.raises(InfrastructureError) as caught:
        store.get_bytes("t/away")
    assert caught.value.reason is Reason.STORE_UNREACHABLE
    assert "did not answer for 180 s" in caught.value.message
    assert set(heard) == {f"{spec.endpoint}: nothing listens there"}
    assert sum(pauses) == pytest.approx(180, abs=0.1)
    assert len([line for line in caplog.messages if "follows in" in line]) == len(pauses)
    assert max(pauses) <= 10
    assert pauses[0] <= 0.5


def test_backoff_grows_with_jitter_up_to_its_cap() -> None:
    pauses: list[float] = []
    patience = Patience(seconds=1000, sleep=pauses.append, clock=lambda: 0.0)
    retrier = Retrier(patience, "GET /")
    for _ in range(12):
        assert retrier.wait("refused")
    for number, pause in enumerate(pauses):
        bound = min(10.0, 0.5 * 2**number)
        assert bound / 2 <= pause <= bound
    assert len(set(pauses)) == len(pauses)


def test_an_upload_outlives_the_death_of_the_store(
    tmp_path: Path, credentials: None, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parts, killed, upload_part = 10, threading.Event(), Minio._upload_part

    def upload(client: Minio, *part: Any) -> str:
        if part[-1] == parts:  # or the upload could be over before the store is killed
            assert killed.wait(120)
        return upload_part(client, *part)

    monkeypatch.setattr(Minio, "_upload_part", upload)
    data = os.urandom(parts * PART_BYTES)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "minio").mkdir()
    with ObjectStore(tmp_path / "minio") as server, caplog.at_level(logging.WARNING):
        waited = threading.Event()

        def sleep(seconds: float) -> None:
            waited.set()
            time.sleep(min(seconds, 0.3))

        heard = list[str]()
        store = Store.connect(server.spec(), patience=Patience(sleep=sleep, heard=heard.append))
        server.kill()  # before the first byte: the transfer meets a store that is away ...
        sender = threading.Thread(target=store.put_file, args=("t/outage", tmp_path / "file"))
        sender.start()
        assert waited.wait(120), "the outage was not noticed"
        server.start()  # ... comes back ...
        deadline = time.monotonic() + 60
        while not list((tmp_path / "minio").rglob("part.*")) and sender.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        waited.clear()
        server.kill()  # ... and dies again in the middle, with parts on its disk
        killed.set()
        assert waited.wait(120), "the second outage was not noticed"
        time.sleep(1)
        server.start()
        sender.join(120)
        assert not sender.is_alive()
        assert heard[0].startswith(f"{store.endpoint}: ")
        assert heard[-1] == "", "it answers again"
        found = store.stat("t/outage")
        assert found is not None
        assert found.sha256 == sha(data)
        assert store.get_bytes("t/outage") == data


@pytest.mark.parametrize(("offset", "length"), [(None, 5 * 2**20), (2**20 + 7, 4 * 2**20)])
def test_a_download_goes_on_where_the_connection_broke(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offset: int | None,
    length: int,
) -> None:
    whole = os.urandom(7 * 2**20 if offset else length)
    store.put_bytes("t/broken", whole)
    data = whole[offset or 0 :][:length]
    real, sent = HTTPResponse.stream, []

    def stream(self: HTTPResponse, amount: int = 2**16, decode_content: bool | None = None):  # type: ignore[no-untyped-def]
        for number, chunk in enumerate(real(self, amount, decode_content)):
            sent.append(len(chunk))
            if len(sent) == 3 and number == 2:
                raise ProtocolError("Connection broken: reset by peer")
            yield chunk

    monkeypatch.setattr(HTTPResponse, "stream", stream)
    store.download("t/broken", tmp_path / "file", sha256=sha(data), bytes=length, offset=offset)
    assert (tmp_path / "file").read_bytes() == data
    assert sum(sent) == len(data) + 2**20  # one chunk twice, not the whole object


def test_a_part_of_an_object(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256))
    store.put_bytes("t/part", data)
    assert store.get_range("t/part", 10, 20) == data[10:30]
    assert store.get_range("t/part", 250, 20) == data[250:]
    assert store.get_range("t/part", 10, 0) == b""
    got = store.download("t/part", tmp_path / "part", bytes=5, offset=0)
    assert (got.bytes, got.sha256) == (5, sha(data[:5]))
    assert (tmp_path / "part").read_bytes() == data[:5]
    with pytest.raises(ArtifactCorrupt):
        store.download("t/part", tmp_path / "other", bytes=20, offset=250)
    assert not (tmp_path / "other").exists()


def test_listing_and_deleting(store: Store) -> None:
    for name in ("b", "a", "c/d"):
        store.put_bytes(f"t/list/{name}", b"123")
    listed = list(store.list("t/list/"))
    assert [entry.key for entry in listed] == ["t/list/a", "t/list/b", "t/list/c/d"]
    assert {entry.bytes for entry in listed} == {3}
    store.delete(["t/list/a", "t/list/c/d", "t/list/never"])
    assert [entry.key for entry in store.list("t/list/")] == ["t/list/b"]
    store.delete([])


def test_another_bucket_with_the_same_credentials(store: Store, server: ObjectStore) -> None:
    server.client().make_bucket("other")
    other = store.for_uri("s3://other/some/key")
    other.put_bytes("some/key", b"there")
    assert other.uri("some/key") == "s3://other/some/key"
    assert other.get_bytes("some/key") == b"there"
    assert store.stat("some/key") is None
    assert store.for_uri("s3://wan/x") is store


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://b/k/e/y", ("b", "k/e/y")),
        ("s3://b", ("b", "")),
        ("s3://b/p/", ("b", "p")),
    ],
)
def test_uris_are_parsed(uri: str, parts: tuple[str, str]) -> None:
    assert Store.parse(uri) == parts


@pytest.mark.parametrize("uri", ["b/k", "http://b/k", "s3://", "s3:///k", ""])
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="is not s3://"):
        Store.parse(uri)
