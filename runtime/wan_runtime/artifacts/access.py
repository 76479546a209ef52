"""What opens a store: its endpoint, credentials, certificate authority and bucket, each refused by
name before anything is sent."""

from __future__ import annotations

import os
import re
import ssl
from urllib.parse import urlsplit

from minio import Minio
from minio.helpers import check_bucket_name

from wan_runtime.artifacts.patience import Patience, PatientPool
from wan_runtime.contract.job import StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.faults import value

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]+\]")
SECRET = "the Secret of spec.store.secretRef"
VARIABLES = {"accessKey": "AWS_ACCESS_KEY_ID", "secretKey": "AWS_SECRET_ACCESS_KEY"}
"""Key of the Secret -> variable of the pod."""


def client_of(spec: StoreSpec, patience: Patience) -> Minio:
    """A client with credentials from the environment. Sends no request yet.

    Raises:
        InfrastructureError: STORE_ACCESS_DENIED without usable credentials, STORE_UNREACHABLE if
            the endpoint is no http(s) URL or the CA file cannot be used, STORE_NOT_FOUND for what
            is no bucket's name.
    """
    secure, address = _endpoint(spec.endpoint)
    access, secret = _credentials(spec.endpoint)
    check_bucket(spec.bucket)
    if spec.ca_file is not None:
        _check_authority(spec.ca_file)
    return Minio(
        address,
        access_key=access,
        secret_key=secret,
        session_token=os.environ.get("AWS_SESSION_TOKEN"),
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


def _credentials(endpoint: str) -> tuple[str, str]:
    found = {key: os.environ.get(variable, "") for key, variable in VARIABLES.items()}
    if not all(found.values()):
        raise InfrastructureError(
            Reason.STORE_ACCESS_DENIED,
            f"no credentials for {endpoint}: {SECRET} must hold accessKey and secretKey "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY here)",
        )
    for key, text in found.items():
        # Never said itself: it is a secret.
        what = f"{key} in {SECRET} ({VARIABLES[key]} here)"
        if text != text.strip():
            fault = "begins or ends with white space, such as the line break that echo adds"
        elif not (text.isascii() and text.isprintable()):
            fault = "holds a character that no key has"
        else:
            continue
        raise InfrastructureError(
            Reason.STORE_ACCESS_DENIED, f"{what} {fault}: write the key alone"
        )
    return found["accessKey"], found["secretKey"]


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
