"""Checks adapters that are not ready again: who mends the file of one need not start workers anew.
No torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from wan_runtime.contract.report import AdapterNote
from wan_runtime.contract.service import AdapterSpec, AdapterUse, ServiceSpec
from wan_runtime.errors import StepError
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.serving.worker.adapter_notes import noted
from wan_runtime.serving.worker.processes import Processes
from wan_runtime.serving.worker.status import Status

log = logging.getLogger(__name__)

PAUSES = (30.0, 600.0)
"""Seconds between two checks: doubled from the first to the last while nothing changes."""


@dataclass(slots=True)
class Recheck:
    """Rechecks of one worker's adapters that are not ready."""

    service: ServiceSpec
    files: AdapterFiles
    status: Status
    pauses: tuple[float, float] = PAUSES
    _unanswered: dict[str, AppliedAdapter] = field(default_factory=dict)
    """Adapters, by name, that were fetched anew and that no rank has checked yet."""

    def answered(self, notes: Iterable[AdapterNote]) -> None:
        """A rank has checked these."""
        for each in notes:
            self._unanswered.pop(each.name, None)

    async def run(self, ranks: Callable[[], Processes | None], news: Callable[[], None]) -> None:
        """Until cancelled. `news`: called when a note has changed here; what ranks find comes by
        their own messages."""
        pause, longest = self.pauses
        while True:
            await asyncio.sleep(pause)
            notes = self.status.notes
            faulty = [each for each in self.service.adapters if not _is_ready(notes, each.name)]
            if ranks() is None or not faulty:
                pause = self.pauses[0]
                continue
            fetched = [await asyncio.to_thread(self._fetch, each) for each in faulty]
            uses = {each.name: each for each in fetched if isinstance(each, AppliedAdapter)}
            known = [each for each in fetched if isinstance(each, AdapterNote)]
            self.answered(known)
            self._unanswered |= uses
            if self.status.note(*known):
                news()
            # Other ranks may have come meanwhile. What these ones do not answer is sent again: its
            # files are no news by then.
            at_work = ranks()
            due = [self._unanswered[each.name] for each in faulty if each.name in self._unanswered]
            if at_work is not None and due:
                at_work.check(tuple(due))
            pause = self.pauses[0] if uses else min(longest, 2 * pause)

    def _fetch(self, spec: AdapterSpec) -> AppliedAdapter | AdapterNote | None:
        """Its files, if they are others by now; or why they cannot be had. None: nothing new."""
        found: list[AppliedAdapter] = []

        def check() -> str:
            if self.files.renew(spec):
                found.append(self.files.apply(spec, AdapterUse(name=spec.name)))
            return ""

        try:
            note = noted(spec.name, check)
        except StepError as error:
            log.warning("adapter %s cannot be checked: %s", spec.name, error)
            return None
        if not note.ready:
            return note
        return found[0] if found else None


def _is_ready(notes: dict[str, AdapterNote], name: str) -> bool:
    return name not in notes or notes[name].ready
