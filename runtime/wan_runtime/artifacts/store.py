"""The object store: one bucket of an S3-compatible endpoint.

Keys are whole keys of the bucket, without a leading slash. An outage shorter than
`Patience.seconds` is waited out inside; every network error that comes out is a StepError.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from wan_runtime import heartbeat
from wan_runtime.artifacts.access import check_bucket, client_of
from wan_runtime.artifacts.answers import DENIED, Answers, said
from wan_runtime.artifacts.errors import ArtifactCorrupt as ArtifactCorrupt
from wan_runtime.artifacts.errors import ObjectNotFound as ObjectNotFound
from wan_runtime.artifacts.patience import Patience, Retrier
from wan_runtime.contract.job import StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.no_answer import why

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

PART_BYTES = 8 * 2**20
"""Bytes of a part of a multipart upload: small enough for a 5 Mbit/s line within the timeout of one
request."""
MAX_PARTS = 10_000
CHUNK_BYTES = 2**20
GET, PUT, DELETE, LIST = "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"
"""Actions, as policies name them."""
SHA_HEADER = "x-amz-meta-sha256"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A stored object."""

    key: str
    bytes: int
    sha256: str | None
    """Hex. None if it was uploaded by something else than a Store, and in listings."""
    etag: str | None = field(default=None, compare=False)
    """In listings, and of a stat: changes with the content."""
    modified: datetime | None = field(default=None, compare=False)
    """In listings: when it was written, by the store's clock."""


class Store:
    """Reads and writes one bucket. Safe to share between threads."""

    def __init__(self, client: Minio, spec: StoreSpec, patience: Patience) -> None:
        self._client = client
        self._spec = spec
        self._patience = patience
        self._answers = Answers(spec, patience.seconds)
        self._bucket_seen = False
        self.bucket = spec.bucket

    @classmethod
    def connect(cls, spec: StoreSpec, *, patience: Patience | None = None) -> Store:
        """A store with the pod's credentials. Sends no request yet.

        Raises InfrastructureError as `client_of` does.
        """
        patience = patience or Patience()
        return cls(client_of(spec, patience), spec, patience)

    @property
    def endpoint(self) -> str:
        """http(s)://host[:port]"""
        return self._spec.endpoint

    def uri(self, key: str) -> str:
        """`s3://<bucket>/<key>`"""
        return f"s3://{self.bucket}/{key}"

    @staticmethod
    def parse(uri: str) -> tuple[str, str]:
        """(bucket, key without slashes at its ends) of an s3:// URI. Raises ValueError."""
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise ValueError(f"{uri!r} is not s3://bucket/key")
        return bucket, key.strip("/")

    def for_uri(self, uri: str) -> Store:
        """A store for the URI's bucket: same endpoint, credentials and connections.

        Raises ValueError, or InfrastructureError(STORE_NOT_FOUND) for what is no bucket's name.
        """
        bucket, _ = self.parse(uri)
        if bucket == self.bucket:
            return self
        check_bucket(bucket)
        spec = self._spec.model_copy(update={"bucket": bucket})
        return Store(self._client, spec, self._patience)

    def put_bytes(
        self, key: str, data: bytes, *, content_type: str = "application/octet-stream"
    ) -> ObjectInfo:
        """Write an object from memory, replacing any of that key."""
        return self._put(
            key, lambda: io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest(), content_type
        )

    def put_file(self, key: str, path: Path, *, sha256: str | None = None) -> ObjectInfo:
        """Upload a file, replacing any object of that key. `sha256`: its own, if known."""
        digest = sha256 or file_sha256(path)
        return self._put(
            key, lambda: path.open("rb"), path.stat().st_size, digest, "application/octet-stream"
        )

    def get_bytes(self, key: str) -> bytes:
        """A whole object. For small ones. Raises ObjectNotFound."""
        sink = io.BytesIO()
        self._receive(key, (sink.write,))
        return sink.getvalue()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on; fewer at the object's end. Raises ObjectNotFound."""
        sink = io.BytesIO()
        self._receive(key, (sink.write,), offset, length)
        return sink.getvalue()

    def stream(
        self, key: str, sink: Callable[[bytes], Any], *, offset: int = 0, length: int | None = None
    ) -> None:
        """Pass an object on in chunks, from `offset` on. Raises ObjectNotFound."""
        self._receive(key, (sink,), offset, length)

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        bytes: int | None = None,
        offset: int | None = None,
    ) -> ObjectInfo:
        """Write an object to `path`, which appears only once it is whole and verified.

        Checked against `sha256` and `bytes`; without `sha256`, against the one recorded at upload.
        With `offset`, only the `bytes` bytes that begin there, such as a member of an archive.
        Raises ObjectNotFound, ArtifactCorrupt, OSError of the local disk.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            with partial.open("wb") as file:
                sinks = (file.write, digest.update)
                if offset is None:
                    size, recorded = self._receive(key, sinks)
                else:  # the checksum recorded at upload is the whole object's
                    size, recorded = self._receive(key, sinks, offset, bytes)[0], None
            got, wanted = digest.hexdigest(), sha256 or recorded
            if bytes is not None and size != bytes:
                raise ArtifactCorrupt(
                    f"{self.uri(key)} has {size} bytes; its manifest says {bytes}"
                )
            if wanted is not None and got != wanted:
                raise ArtifactCorrupt(f"{self.uri(key)} has sha256 {got}; expected {wanted}")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return ObjectInfo(key, size, got)

    def stat(self, key: str) -> ObjectInfo | None:
        """Size, recorded checksum and ETag; None if there is no such object."""
        try:
            found = self._call(GET, key, lambda: self._client.stat_object(self.bucket, key))
        except ObjectNotFound:
            return None
        recorded = (found.metadata or {}).get(SHA_HEADER)
        return ObjectInfo(key, int(found.size or 0), recorded, found.etag)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in order of their keys, without checksums."""
        found = self._client.list_objects(self.bucket, prefix=prefix, recursive=True)
        while (entry := self._call(LIST, prefix, lambda: next(found, None))) is not None:
            size, modified = int(entry.size or 0), entry.last_modified
            yield ObjectInfo(str(entry.object_name), size, None, entry.etag, modified)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Names of the folders directly below a prefix that is empty or ends with `/`, at most the
        first 1000 entries of it."""
        found = self._client.list_objects(self.bucket, prefix=prefix)
        listed = self._call(LIST, prefix, lambda: tuple(islice(found, 1000)))
        return tuple(str(each.object_name)[len(prefix) : -1] for each in listed if each.is_dir)

    def presigned(self, key: str, seconds: int) -> str:
        """A URL that reads the object without credentials for that long."""
        expires = timedelta(seconds=seconds)
        url: str = self._call(
            GET, key, lambda: self._client.presigned_get_object(self.bucket, key, expires=expires)
        )
        return url

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that do not exist count as removed."""
        names = tuple(keys)
        if not names:
            return
        targets = [DeleteObject(name) for name in names]
        errors = self._call(
            DELETE, names[0], lambda: list(self._client.remove_objects(self.bucket, targets))
        )
        if errors:
            first = errors[0]
            if first.code in DENIED:
                raise self._answers.denied(
                    first.code, first.message, DELETE, first.name or names[0]
                )
            raise InfrastructureError(
                Reason.UNEXPECTED,
                f"{self.uri(first.name or names[0])} cannot be deleted{said(first.message)}",
            )

    def _put(
        self,
        key: str,
        source: Callable[[], io.BufferedIOBase],
        size: int,
        digest: str,
        content_type: str,
    ) -> ObjectInfo:
        part = max(PART_BYTES, -(-size // MAX_PARTS))

        def send() -> None:
            with source() as data:
                self._client.put_object(
                    self.bucket,
                    key,
                    data,
                    size,
                    content_type=content_type,
                    metadata={"sha256": digest},
                    part_size=part,
                )

        self._call(PUT, key, send)
        return ObjectInfo(key, size, digest)

    def _receive(
        self,
        key: str,
        sinks: tuple[Callable[[bytes], Any], ...],
        offset: int = 0,
        length: int | None = None,
    ) -> tuple[int, str | None]:
        """Stream an object, or `length` bytes of it, into `sinks`, going on where a broken
        connection stopped.

        Returns the number of bytes and the object's recorded checksum."""
        done, etag, recorded = 0, None, None
        retrier = Retrier(self._patience, f"GET {key}")
        while length is None or done < length:
            # The offset belongs to one version of the object: a changed one answers 412.
            left = 0 if length is None else length - done  # 0: all
            headers: dict[str, str] = {"If-Match": etag} if etag else {}
            response = self._open(key, offset + done, left, headers)
            etag, recorded = response.headers.get("etag"), response.headers.get(SHA_HEADER)
            try:
                for chunk in response.stream(CHUNK_BYTES):
                    heartbeat.beat()
                    for sink in sinks:
                        sink(chunk)
                    done += len(chunk)
                    retrier.progressed()
                return done, recorded
            except HTTPError as error:
                if not retrier.wait(why(error)):
                    raise self._answers.no_answer(error) from error
            finally:
                response.close()
                response.release_conn()
        return done, recorded

    def _open(
        self, key: str, offset: int, length: int, headers: dict[str, str]
    ) -> BaseHTTPResponse:
        def get() -> BaseHTTPResponse:
            response: BaseHTTPResponse = self._client.get_object(
                self.bucket, key, offset=offset, length=length, request_headers=headers
            )
            return response

        return self._call(GET, key, get)

    def _call(self, name: str, key: str, action: Callable[[], T]) -> T:
        """Run one client call, its errors turned into ours. Patience is the pool's. `name`: of the
        action, as policies have it."""
        try:
            return action()
        except S3Error as error:
            if error.code == "NoSuchUpload":
                # Completed just before the connection broke; then the request was sent again.
                return action()
            if error.code == "NoSuchKey" and not self._bucket_exists():
                raise self._answers.no_bucket() from error
            raise self._answers.meaning(error, name, key) from error
        except (MinioException, HTTPError) as error:
            raise self._answers.meaning(error, name, key) from error

    def _bucket_exists(self) -> bool:
        # The answer to HEAD has no body, so it cannot tell a missing bucket from a missing object.
        if not self._bucket_seen:
            try:
                self._bucket_seen = self._client.bucket_exists(self.bucket)
            except S3Error:
                self._bucket_seen = True  # a user without the right to ask
            except HTTPError as error:
                raise self._answers.no_answer(error) from error
        return self._bucket_seen


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            heartbeat.beat()
    return digest.hexdigest()
