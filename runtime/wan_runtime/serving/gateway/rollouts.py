"""The canary that the operator names, from its file into the queue."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pydantic import ValidationError

from wan_runtime.contract.rollout import ROLLOUT_FILE, Rollout
from wan_runtime.faults import described
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between two reads of the file."""


class Rollouts:
    """Every gateway does it. Each stores what its own mount says when that changes; a mount that is
    refreshed later than another's has a lower number, and undoes nothing."""

    def __init__(self, queue: Queue, folder: Path) -> None:
        self._queue, self._file = queue, folder / ROLLOUT_FILE
        self._stored: Rollout | None = None

    def mounted(self) -> Rollout | None:
        """As the mount had it last. None: it was not read yet."""
        return self._stored

    async def run(self) -> None:
        """Until cancelled. An outage is waited out: the file is read again."""
        while True:
            try:
                await self.read()
            except QueueAway as error:
                log.warning("the rollout waits: %s", error)
            await asyncio.sleep(EVERY)

    async def read(self) -> None:
        """Raises QueueAway."""
        try:
            wanted = Rollout.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            wanted = Rollout()
        except OSError as error:
            log.warning("%s cannot be read: %s", self._file, error.strerror)
            return
        except ValidationError as error:
            log.warning("%s is left aside: %s", self._file, described(error))
            return
        if wanted != self._stored:
            is_newest = await self._queue.roll_out(wanted)
            self._stored = wanted
            text = "the canary is %s, with %d %%" if is_newest else "left aside as old: %s, %d %%"
            log.info(text, wanted.canary, wanted.weight)
