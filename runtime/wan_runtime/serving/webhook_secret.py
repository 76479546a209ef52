"""The secret that signs webhooks: a key of a mounted Secret, whose changes are followed."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from wan_runtime.contract.reasons import GatewayReason, Reason
from wan_runtime.contract.report import Fault
from wan_runtime.errors import InputError
from wan_runtime.serving import mounted

VARIABLE = "WAN_WEBHOOK_SECRET"
FILE = "WAN_WEBHOOK_SECRET_FILE"
"""Variable with the file of the mounted Secret, which follows its changes."""
PREFIX = "whsec_"
"""What a secret of Standard Webhooks begins with before its base64."""
WHERE = "the key secret of spec.gateway.webhookSecretRef"


class WebhookSecret:
    """Read at every use: the kubelet swaps the file when the Secret changes, and nothing
    restarts."""

    def __init__(self, text: str = "", file: Path | None = None) -> None:
        """`text`: the secret where no file is there."""
        self._text, self._file = text, file

    @classmethod
    def given(cls) -> WebhookSecret:
        """The secret of the environment.

        Raises InputError(JOB_INVALID) for one that cannot be used, unless a Secret is mounted: that
        may be mended yet, and `fault` has what is wrong.
        """
        file, text = os.environ.get(FILE), os.environ.get(VARIABLE, "")
        found = cls(text, Path(file) if file else None)
        wrong = None if file else _wrong(text.strip())
        if text.strip() and wrong is not None:
            raise InputError(Reason.JOB_INVALID, f"{VARIABLE}, {WHERE}, {wrong}")
        return found

    @property
    def is_set(self) -> bool:
        """Whether webhooks are sent, now or once the secret can be used."""
        return self._file is not None or bool(self._text.strip())

    def current(self) -> str | None:
        """The secret; None while there is none that can be used."""
        secret = self._read()
        return None if _wrong(secret) else secret

    def fault(self) -> Fault | None:
        """Why webhooks cannot be signed, without the secret itself; None if they can be, or none
        are sent."""
        wrong = _wrong(self._read()) if self.is_set else None
        if wrong is None:
            return None
        text = (
            "webhooks cannot be signed, so those of earlier requests wait, and requests with a "
            f"webhook_url are refused: {WHERE} {wrong}"
        )
        return Fault.of(GatewayReason.WEBHOOK_SECRET_INVALID, text)

    def _read(self) -> str:
        return mounted.text(self._file, self._text).strip()


def key_of(secret: str) -> bytes:
    """The bytes that sign. A secret `whsec_<base64>` stands for those that it encodes. Raises
    ValueError."""
    if secret.startswith(PREFIX):
        return base64.b64decode(secret.removeprefix(PREFIX))
    return secret.encode(errors="surrogateescape")


def _wrong(secret: str) -> str | None:
    """What keeps a secret from signing; None if nothing does."""
    if not secret:
        return "is empty: write 24 random bytes or more"
    try:
        is_usable = bool(key_of(secret))
    except ValueError:
        is_usable = False
    if is_usable:
        return None
    return f"begins with {PREFIX} and goes on with no base64: copy all of it, or use another text"
