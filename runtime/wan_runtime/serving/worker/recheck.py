"""Adapters that are not ready, looked at again: who mends one's file need not start workers anew.
No torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from wan_runtime.errors import StepError
from wan_runtime.serving.report import AdapterNote
from wan_runtime.serving.service import AdapterSpec, AdapterUse, ServiceSpec
from wan_runtime.serving.worker.adapter_files import AdapterFiles
from wan_runtime.serving.worker.messages import AppliedAdapter
from wan_runtime.serving.worker.notes import noted
from wan_runtime.serving.worker.processes import Processes
from wan_runtime.serving.worker.status import Status

log = logging.getLogger(__name__)

PAUSES = (30.0, 600.0)
"""Seconds between two looks: doubled from the first to the last while nothing changes."""


@dataclass(slots=True)
class Recheck:
    """Of one worker."""

    service: ServiceSpec
    files: AdapterFiles
    status: Status
    pauses: tuple[float, float] = PAUSES

    async def run(self, gang: Callable[[], Processes | None], news: Callable[[], None]) -> None:
        """Until cancelled. `news`: called when a note has changed here; what ranks find comes by
        their own messages."""
        pause, longest = self.pauses
        while True:
            await asyncio.sleep(pause)
            at_work, notes = gang(), self.status.notes
            faulty = [each for each in self.service.adapters if not _is_ready(notes, each.name)]
            if at_work is None or not faulty:
                pause = self.pauses[0]
                continue
            fetched = [await asyncio.to_thread(self._fetch, each) for each in faulty]
            uses = tuple(each for each in fetched if isinstance(each, AppliedAdapter))
            if self.status.note(*(each for each in fetched if isinstance(each, AdapterNote))):
                news()
            if uses:
                at_work.check(uses)
            pause = self.pauses[0] if uses else min(longest, 2 * pause)

    def _fetch(self, spec: AdapterSpec) -> AppliedAdapter | AdapterNote | None:
        """Its files, if they are others by now; or why they cannot be had. None: nothing new."""
        found: list[AppliedAdapter] = []

        def look() -> str:
            if self.files.renew(spec):
                found.append(self.files.apply(spec, AdapterUse(name=spec.name)))
            return ""

        try:
            note = noted(spec.name, look)
        except StepError as error:
            log.warning("adapter %s cannot be looked at: %s", spec.name, error)
            return None
        if not note.ready:
            return note
        return found[0] if found else None


def _is_ready(notes: dict[str, AdapterNote], name: str) -> bool:
    return name not in notes or notes[name].ready
