"""Where things are stored: the bucket, a base model, a committed set of files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wan_runtime.contract.base import Contract

STORE_SECRET = "the store's Secret"
"""Words for the Secret with the store's credentials, in messages of pods. The operator, which knows
it, replaces them."""


class StoreSpec(Contract):
    """An S3-compatible bucket. Credentials come from AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY."""

    endpoint: str
    """http(s)://host[:port]"""
    bucket: str
    prefix: str = ""
    """Without slashes at either end. All that we write lies below it; the latent cache is shared
    within it."""
    region: str = "us-east-1"
    ca_file: str | None = None
    """Mounted PEM bundle for a private certificate authority."""


class ModelSpec(Contract):
    preset: str
    path: str | None = None
    """Mounted folder with the base weights."""
    source: str | None = None
    """s3://bucket/prefix with the base weights, fetched into the cache folder. Neither: a Tiny
    preset makes its own."""


class ManifestRef(Contract):
    """A committed artifact set: where its manifest.json is, and what it must hash to."""

    uri: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
