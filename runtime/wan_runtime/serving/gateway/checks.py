"""Whether requests would work, as far as a gateway can know: the store, the API keys, the secret of
webhooks and the moderation that nothing is made without.

The database is part of every report: see `reporter`.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from fastapi.concurrency import run_in_threadpool

from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.probe import NAME, probe
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import NEEDS_SOMEBODY, GatewayReason
from wan_runtime.contract.report import Fault
from wan_runtime.contract.service import ModerationSpec, ServiceSpec
from wan_runtime.errors import StepError
from wan_runtime.serving.gateway.keys import Keys
from wan_runtime.serving.moderation import unreachable
from wan_runtime.serving.webhook_secret import WebhookSecret

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two probes of the store."""
FIRST_PAUSE = 2.0
"""Seconds between them after a first failure; each further one doubles it, up to EVERY."""
PATIENCE = Patience(seconds=0, connect_seconds=3, read_seconds=5)
"""A probe's own: what it finds has to be known within seconds."""


class Checks:
    """Faults of a gateway's surroundings. Written by its loop, read by other threads."""

    def __init__(
        self,
        store: Store,
        key: str,
        keys: Keys,
        signing: WebhookSecret,
        moderation: ModerationSpec | None = None,
    ) -> None:
        """`key`: of the probe's object, which no other process uses."""
        self._store, self._key, self._keys, self._signing = store, key, keys, signing
        needs = moderation is not None and moderation.on_error == "Refuse"
        self._moderation = moderation if needs else None
        self._unmoderated: Fault | None = None
        self._silences = 1
        """How often in a row moderation gave no answer; before the first answer, one more."""
        self._fault: Fault | None = None
        self._failures = 0
        self._has_worked = False

    @classmethod
    def of(cls, service: ServiceSpec, keys: Keys, signing: WebhookSecret) -> Checks:
        """Checks of a service's gateway. Raises InfrastructureError as `Store.connect` does."""
        store = Store.connect(service.store, patience=PATIENCE)
        key = f"{service.prefix}/{NAME}-{socket.gethostname()}"
        return cls(store, key, keys, signing, service.moderation)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.take()
            await asyncio.sleep(self.pause)

    async def take(self) -> None:
        """One probe of the store and of moderation."""
        await self._take_moderation()
        try:
            await run_in_threadpool(probe, self._store, self._key)
        except StepError as error:
            self._failures += 1
            # An answer that did not come may come the next time, of a store that has ever answered;
            # a refusal is one.
            if error.reason in NEEDS_SOMEBODY or self._failures > 1 or not self._has_worked:
                self._found(Fault.of(error.reason, error.message))
        except Exception as error:
            log.exception("the store cannot be checked")
            self._failures += 1
            text = f"the store cannot be checked ({type(error).__name__}): the log has the rest"
            self._found(Fault.of(GatewayReason.CHECK_FAILED, text))
        else:
            self._failures = 0
            self._has_worked = True
            self._found(None)

    async def _take_moderation(self) -> None:
        hook = self._moderation
        if hook is None:
            return
        cause = await run_in_threadpool(unreachable, hook, PATIENCE.read_seconds)
        self._silences = self._silences + 1 if cause else 0
        text = f"{hook.url}, spec.moderation.url, does not answer: {cause}"
        fault = Fault.of(GatewayReason.MODERATION_UNREACHABLE, text)
        # One answer that is missing may be an accident.
        self._unmoderated = fault if self._silences > 1 else None

    @property
    def pause(self) -> float:
        """Seconds until the next probe."""
        if not self._failures:
            return EVERY
        return min(EVERY, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))

    def faults(self) -> tuple[Fault, ...]:
        """What is wrong now, the store's first."""
        missing = self._keys.missing()
        keys = None if missing is None else Fault.of(GatewayReason.NO_API_KEY, missing)
        found = (self._fault, keys, self._unmoderated, self._signing.fault())
        return tuple(each for each in found if each is not None)

    def _found(self, fault: Fault | None) -> None:
        if fault is not None and fault != self._fault:
            log.warning("%s: %s", fault.reason, fault.message)
        elif fault is None and self._fault is not None:
            log.info("the store takes objects again")
        self._fault = fault
