"""The store's credentials: the mounted Secret where there is one, which follows its changes, else
variables of the pod, which are as they were when its container began."""

from __future__ import annotations

import os
from pathlib import Path

from minio.credentials import Credentials, Provider

from wan_runtime.contract.job import STORE_SECRET
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError

FOLDER = "WAN_STORE_CREDENTIALS"
"""Variable with the folder of the mounted Secret."""
VARIABLES = {
    "accessKey": "AWS_ACCESS_KEY_ID",
    "secretKey": "AWS_SECRET_ACCESS_KEY",
    "sessionToken": "AWS_SESSION_TOKEN",
}
"""Key of the Secret -> variable of the pod."""
NEEDED = ("accessKey", "secretKey")


class StoreCredentials(Provider):  # type: ignore[misc]  # minio is not checked
    """Credentials of one endpoint; those that are mounted are read anew for each request."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._of_variables = _of_variables()

    def retrieve(self) -> Credentials:
        """Raises InfrastructureError(STORE_ACCESS_DENIED) if there are none that a request can
        carry."""
        found = _of_folder() or self._of_variables
        if not all(found[key] for key in NEEDED):
            raise InfrastructureError(
                Reason.STORE_ACCESS_DENIED,
                f"no credentials for {self._endpoint}: {STORE_SECRET} must hold accessKey and "
                "secretKey (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY here)",
            )
        for key, text in found.items():
            if not (text.isascii() and text.isprintable()):
                # Never quoted: it is a secret.
                raise InfrastructureError(
                    Reason.STORE_ACCESS_DENIED,
                    f"{key} in {STORE_SECRET} ({VARIABLES[key]} here) holds a character that no "
                    "key has: write the key alone",
                )
        return Credentials(
            found["accessKey"], found["secretKey"], session_token=found["sessionToken"] or None
        )


def withheld(text: str) -> str:
    """The text of a server without any of the credentials, which some quote."""
    for secret in (*_of_folder().values(), *_of_variables().values()):
        if secret:
            text = text.replace(secret, "…")
    return text


def _of_variables() -> dict[str, str]:
    """Values by key of the Secret; empty text for what is missing. White space around a value, such
    as the line break that echo adds, is no part of it."""
    return {key: os.environ.get(name, "").strip() for key, name in VARIABLES.items()}


def _of_folder() -> dict[str, str]:
    """Values likewise; empty without a mounted Secret that has what is needed."""
    folder = os.environ.get(FOLDER)
    mounted = _mounted(Path(folder)) if folder else {}
    whole = all(mounted.get(key) for key in NEEDED)
    return {key: mounted.get(key, "") for key in VARIABLES} if whole else {}


def _mounted(folder: Path) -> dict[str, str]:
    """Values of one version of the Secret: the kubelet puts a new folder behind the link."""
    for _ in range(2):
        version = (folder / "..data").resolve() if (folder / "..data").exists() else folder
        try:
            return {
                key: (version / key).read_text(errors="surrogateescape").strip()
                for key in VARIABLES
                if (version / key).exists()
            }
        except FileNotFoundError:  # replaced meanwhile
            continue
        except OSError:
            break
    return {}
