"""Progress of a step: to the terminal or the log, and to the file that the supervisor serves."""

from __future__ import annotations

import logging
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wan_runtime import heartbeat
from wan_runtime.contract.job import Checkpoint, Progress
from wan_runtime.contract.reasons import Reason

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)

FILE = "progress.json"
UNCOUNTED_FILE = "uncounted"
"""There while something goes on that takes its time and is not counted."""
LOG_SECONDS = 10.0
PUBLISH_SECONDS = 0.5
MB = 10**6
RATE_WINDOW = 32
"""Updates whose median is the rate: a checkpoint, or the first, compiling step, does not count."""

TRANSFER_SECONDS = 1.0
"""Between updates of a transfer: its rate is then that of the last half minute."""

Unit = Literal["clips", "steps", "files", "videos", "ratings", "MB"]


class Reporter:
    """Told by a step how far it is. Call it freely: it limits its own output. One thread only."""

    def __init__(
        self,
        step_id: str,
        folder: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        terminal: bool | None = None,
        quiet: bool = False,
    ) -> None:
        """`folder`: where the supervisor looks for the progress file; None publishes nothing.
        `quiet`: only the file is written, as another rank reports for all."""
        self._folder = folder
        self._clock = clock
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._quiet = quiet
        self._pace: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOW)
        self._logged = self._published = float("-inf")
        self._bar: tqdm[Any] | None = None
        self._waits_for = ""
        self._waits_reason: Reason | None = None
        self._one = threading.Lock()
        self.progress = Progress(step_id=step_id, activity="starting")
        self._publish()

    def update(
        self,
        *,
        activity: str | None = None,
        current: int | None = None,
        total: int | None = None,
        unit: Unit | None = None,
        loss: float | None = None,
        updates_lost: float | None = None,
    ) -> None:
        """Change what is given. A new activity starts from 0 with the rest unknown."""
        heartbeat.beat()
        last = self.progress
        fresh = activity is not None and activity != last.activity
        now = self._clock()
        if fresh:
            self._pace.clear()
            self._close_bar()
        at = current if current is not None else (0 if fresh else last.current)
        if at < last.current and not fresh:
            self._pace.clear()  # counted anew: times of the old count say nothing
        if not self._pace or at != self._pace[-1][1]:
            self._pace.append((now, at))
        of = total if total is not None else (0 if fresh else last.total)
        self.progress = Progress(
            step_id=last.step_id,
            activity=activity or last.activity,
            current=at,
            total=of,
            unit=unit or last.unit,
            eta_seconds=self._eta(at, of),
            loss=loss if loss is not None else (None if fresh else last.loss),
            updates_lost=updates_lost
            if updates_lost is not None
            else (None if fresh else last.updates_lost),
            checkpoint=last.checkpoint,
        )
        done = bool(of) and at >= of
        if fresh or done or now - self._published >= PUBLISH_SECONDS:
            self._published = now
            self._publish()
        if self._quiet:
            return
        if self._terminal:
            self._draw()
        elif fresh or (done and at != last.current) or now - self._logged >= LOG_SECONDS:
            self._logged = now
            log.info("%s", str(self))  # as it is now, not when a handler gets to it

    def counting(self, activity: str, total: int) -> Callable[[int], None]:
        """Begin to move or read `total` bytes. Call what is returned, from any thread, with the
        number of each chunk's; it is shown in MB."""
        done, reported = 0, float("-inf")
        one = threading.Lock()

        def advance(count: int) -> None:
            nonlocal done, reported
            heartbeat.beat()
            with one:
                done += count
                now = self._clock()
                if done < total and now - reported < TRANSFER_SECONDS:
                    return
                reported = now
                of = -(-total // MB)
                at = of if done >= total else done // MB
                self.update(activity=activity, current=at, total=of, unit="MB")

        advance(0)
        return advance

    def saved(self, checkpoint: Checkpoint) -> None:
        """A checkpoint is committed, or was by an earlier attempt. Published at once."""
        self.progress = self.progress.model_copy(update={"checkpoint": checkpoint})
        self._publish()

    def waits_for(self, what: str, reason: Reason = Reason.STORE_UNREACHABLE) -> None:
        """Something outside gives no answer, which `what` names; empty once it does. Published at
        once. Call it from any thread."""
        if what != self._waits_for:
            self._waits_for, self._waits_reason = what, reason if what else None
            self._publish()

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Something between two counts that takes its time: no rank is stuck meanwhile."""
        if self._folder is None:
            yield
            return
        sign = self._folder / UNCOUNTED_FILE
        sign.touch()
        try:
            yield
        finally:
            sign.unlink(missing_ok=True)

    def close(self) -> None:
        """Publish the last state and take the bar away."""
        self._publish()
        self._close_bar()

    def __str__(self) -> str:
        now = self.progress
        parts = [now.activity]
        if now.total:
            parts.append(f"{now.current}/{now.total} {now.unit}")
        if now.loss is not None:
            parts.append(f"loss {now.loss:.4f}")
        if now.eta_seconds:
            parts.append(f"about {now.eta_seconds:.0f} s left")
        return ", ".join(parts)

    def _eta(self, current: int, total: int) -> float | None:
        if not total:
            return None
        if current >= total:
            return 0.0
        paces = [
            (end - start) / (after - before)
            for (start, before), (end, after) in zip(self._pace, list(self._pace)[1:], strict=False)
        ]
        return round((total - current) * statistics.median(paces), 1) if paces else None

    def _publish(self) -> None:
        if self._folder is None:
            return
        partial = self._folder / f".{FILE}.{os.getpid()}"
        with self._one:
            waits = {"waits_for": self._waits_for, "waits_reason": self._waits_reason}
            now = self.progress.model_copy(update=waits)
            partial.write_text(now.model_dump_json(by_alias=True))
            partial.replace(self._folder / FILE)  # atomic: the supervisor never reads half a file

    def _draw(self) -> None:
        from tqdm import tqdm  # the gateway's image has none, and draws none

        now = self.progress
        bar: tqdm[Any] = self._bar or tqdm(
            desc=now.activity, unit=f" {now.unit}", dynamic_ncols=True
        )
        bar.total = now.total or None
        bar.n = now.current
        if now.loss is not None:
            bar.set_postfix(loss=f"{now.loss:.4f}", refresh=False)
        bar.refresh()
        self._bar = bar

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
