"""What a store may answer about one object."""

from __future__ import annotations

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError


class ObjectNotFound(InfrastructureError):
    """The bucket holds no object of that key."""

    def __init__(self, uri: str) -> None:
        super().__init__(Reason.STORE_NOT_FOUND, f"{uri} does not exist")
        self.uri = uri


class ArtifactCorrupt(InfrastructureError):
    """What is stored differs from what its manifest says."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.ARTIFACT_CORRUPT, message)
