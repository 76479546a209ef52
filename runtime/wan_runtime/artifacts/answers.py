"""What the answers of a store mean: errors with a reason, the store's own words and what helps."""

from __future__ import annotations

import re

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from wan_runtime.artifacts.credentials import withheld
from wan_runtime.artifacts.errors import ArtifactCorrupt, ObjectNotFound
from wan_runtime.artifacts.patience import TRANSIENT_STATUS, is_untrusted
from wan_runtime.contract.job import STORE_SECRET, StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.no_answer import why

EXPIRED = frozenset({"ExpiredToken", "InvalidToken", "InvalidTokenId", "TokenRefreshRequired"})
DENIED = EXPIRED | {
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "SignatureDoesNotMatch",
    "Unauthorized",
}
ELSEWHERE = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "BadRequest",
        "IllegalLocationConstraintException",
        "InvalidRegionName",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)
"""Codes with which stores refuse a region, and some of them other things too."""
EXPECTED = re.compile(r"expecting '([^']+)'|use region (\S+)")
WORDS = 200
"""Characters of a store's words that are quoted."""


class Answers:
    """Answers of one store about one bucket."""

    def __init__(self, spec: StoreSpec, seconds: float) -> None:
        """`seconds`: how long a request waits for an answer."""
        self._spec = spec
        self._seconds = seconds

    def uri(self, key: str) -> str:
        """`s3://<bucket>/<key>`"""
        return f"s3://{self._spec.bucket}/{key}"

    def meaning(
        self, error: MinioException | HTTPError, action: str, key: str
    ) -> InfrastructureError:
        """The error as one of ours. `action`: as policies name it, such as s3:PutObject."""
        endpoint = self._spec.endpoint
        if isinstance(error, S3Error):
            return self._refused(error, action, key)
        if isinstance(error, HTTPError):
            return self.no_answer(error)
        if isinstance(error, InvalidResponseError):
            code = re.search(r"code: (\d{3})", str(error))
            status = f", but with status {code[1]}" if code else ""
            return InfrastructureError(
                Reason.STORE_UNREACHABLE,
                f"{endpoint} does not answer as an S3 API{status}: is it the right port?",
            )
        if isinstance(error, ServerError):
            if error.status_code in TRANSIENT_STATUS:
                return self.no_answer(error)
            text = f"{endpoint} answered with status {error.status_code} for {self.uri(key)}"
            return InfrastructureError(Reason.UNEXPECTED, text)
        text = f"{endpoint} did not do what was requested of {self.uri(key)}"
        return InfrastructureError(Reason.UNEXPECTED, text)

    def denied(self, code: str, words: str | None, action: str, key: str) -> InfrastructureError:
        """The store knows the request, and refuses it to this user."""
        helps = f"or let the policy of their user allow {action}"
        if code in EXPIRED:
            helps = "and sessionToken, which has an end"
        return InfrastructureError(
            Reason.STORE_ACCESS_DENIED,
            f"{self._spec.endpoint} denies access to bucket {self._spec.bucket!r} ({action} of "
            f"{key!r}: {code}{said(words)}): correct accessKey and secretKey in {STORE_SECRET}, "
            f"{helps}",
        )

    def no_bucket(self) -> InfrastructureError:
        """The bucket does not exist."""
        return InfrastructureError(
            Reason.STORE_NOT_FOUND,
            f"{self._spec.endpoint} has no bucket {self._spec.bucket!r}: create it",
        )

    def no_answer(self, error: HTTPError | ServerError) -> InfrastructureError:
        """Patience is spent."""
        if is_untrusted(error):
            return InfrastructureError(
                Reason.STORE_UNREACHABLE,
                f"the certificate of {self._spec.endpoint} is not trusted: name its authority in "
                "the CA bundle of spec.store, and the host as its certificate does",
            )
        if isinstance(error, ServerError):
            cause = f"it answered with status {error.status_code}"
        else:
            cause = why(error)
        waited = f" for {self._seconds:.0f} s" if self._seconds else ""
        return InfrastructureError(
            Reason.STORE_UNREACHABLE, f"{self._spec.endpoint} did not answer{waited}: {cause}"
        )

    def _refused(self, error: S3Error, action: str, key: str) -> InfrastructureError:
        code, endpoint = error.code or "", self._spec.endpoint
        if code in DENIED:
            return self.denied(code, error.message, action, key)
        elsewhere = self._elsewhere(error)
        if elsewhere is not None:
            return elsewhere
        if code == "NoSuchBucket":
            return self.no_bucket()
        if code in ("NoSuchKey", "NoSuchObject", "ResourceNotFound"):
            return ObjectNotFound(self.uri(key))
        if code == "PreconditionFailed":
            return ArtifactCorrupt(f"{self.uri(key)} was replaced while it was read")
        if code == "XMinioStorageFull":
            return InfrastructureError(Reason.DISK_FULL, f"the store {endpoint} is full")
        return InfrastructureError(
            Reason.UNEXPECTED,
            f"{endpoint} answered {code} for {action} of {self.uri(key)}{said(error.message)}",
        )

    def _elsewhere(self, error: S3Error) -> InfrastructureError | None:
        """The bucket is in another region than the one that requests are signed for."""
        if error.code not in ELSEWHERE:
            return None
        region = named_region(error)
        if region == self._spec.region or (region is None and "region" not in str(error.message)):
            return None
        right = "that of the bucket" if region is None else region
        return InfrastructureError(
            Reason.STORE_REGION_WRONG,
            f"{self._spec.endpoint} refuses the region {self._spec.region} for bucket "
            f"{self._spec.bucket!r} ({error.code}{said(error.message)}): set spec.store.region, or "
            f"the Helm value store.region, to {right}",
        )


def named_region(error: S3Error) -> str | None:
    """The right one, if the store says which it is."""
    headers = getattr(error.response, "headers", None) or {}
    found: str | None = headers.get("x-amz-bucket-region")
    if found:
        return found
    match = EXPECTED.search(error.message or "")
    return None if match is None else match[1] or match[2]


def said(words: str | None) -> str:
    """The store's words, after a colon; empty if it gave none."""
    text = " ".join(withheld(words or "").split()).rstrip(".")
    return f": {text[:WORDS]}" if text else ""
