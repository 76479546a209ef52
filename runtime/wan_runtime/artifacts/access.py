"""What opens a store: its endpoint, credentials, certificate authority and bucket, each refused by
name before anything is sent."""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

from minio import Minio
from minio.helpers import check_bucket_name

from wan_runtime.artifacts.credentials import StoreCredentials
from wan_runtime.artifacts.patience import Patience, PatientPool
from wan_runtime.contract.job import StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.faults import value

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]+\]")


def client_of(spec: StoreSpec, patience: Patience) -> Minio:
    """A client with the pod's credentials. Sends no request yet.

    Raises:
        InfrastructureError: STORE_ACCESS_DENIED without usable credentials, STORE_UNREACHABLE if
            the endpoint is no http(s) URL or the CA file cannot be used, STORE_NOT_FOUND for what
            is no bucket's name.
    """
    secure, address = _endpoint(spec.endpoint)
    credentials = StoreCredentials(spec.endpoint)
    credentials.retrieve()
    check_bucket(spec.bucket)
    if spec.ca_file is not None:
        _check_authority(spec.ca_file)
    return Minio(
        address,
        credentials=credentials,
        secure=secure,
        region=spec.region,
        http_client=PatientPool(patience, ca_file=spec.ca_file),
    )


def check_bucket(name: str) -> None:
    """Raises InfrastructureError(STORE_NOT_FOUND) for what no bucket is called."""
    try:
        check_bucket_name(name)
    except ValueError as error:
        raise InfrastructureError(
            Reason.STORE_NOT_FOUND,
            f"{value(name)} names no bucket: 3 to 63 of the characters a-z, 0-9, . and -, no "
            "address, and neither .. nor .- nor -. within",
        ) from error


def _endpoint(endpoint: str) -> tuple[bool, str]:
    """Whether it is https, and its host and port."""
    try:
        url = urlsplit(endpoint)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    host = url.netloc.removesuffix(f":{port}")
    rest = url.path.strip("/") + url.query + url.fragment
    known = url.scheme in ("http", "https") and HOST.fullmatch(host) and ".." not in host
    if not known or rest or port == 0:
        raise InfrastructureError(
            Reason.STORE_UNREACHABLE,
            f"store endpoint {value(endpoint)} is not http(s)://host[:port]",
        )
    return url.scheme == "https", url.netloc


def _check_authority(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        fault = "holds no certificate in PEM"
        raise InfrastructureError(
            Reason.STORE_UNREACHABLE, f"CA file {path} of the store {fault}"
        ) from error
    except OSError as error:
        raise InfrastructureError(
            Reason.STORE_UNREACHABLE, f"CA file {path} of the store cannot be read"
        ) from error
