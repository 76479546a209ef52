"""VMAF by an ffmpeg program that is mounted: no package of a permissive licence holds libvmaf."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from wan_runtime.evaluation.metrics.frame import Pair
from wan_runtime.evaluation.metrics.planes import FORMAT, planes_of, yuv_pair
from wan_runtime.evaluation.metrics.scorer import reference_of, too_short
from wan_runtime.evaluation.metrics.unscored import NoScore

MODEL = "vmaf_v0.6.1"
LINE = 300
"""Characters of what the program says that are handed on, at most."""


class Vmaf:
    """Hands both clips to the program as one stream, the candidate above the reference: of two
    streams it may wait for one while the other waits for it."""

    def __init__(self, program: Path | None, deadline: float) -> None:
        """`deadline`: of time.monotonic(), at which the program is ended."""
        if program is None:
            raise NoScore("NotMounted", "no ffmpeg program with libvmaf is mounted")
        self._program, self._deadline = program, deadline
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._timer: threading.Timer | None = None

    def add(self, pair: Pair) -> None:
        """Hand over a pair, unless it is the first."""
        reference_of(pair)
        if not pair.index:
            return
        frames = yuv_pair(pair)
        process = self._process or self._started(*frames)
        assert process.stdin is not None
        stacked = zip(*map(planes_of, frames), strict=True)
        try:
            for planes in stacked:
                process.stdin.write(np.vstack(planes).tobytes())
        except OSError:  # it has ended
            raise self._failure() from None

    def value(self) -> float:
        """Between 0 and 100."""
        if self._process is None or self._folder is None:
            raise too_short()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            raise self._failure() from None
        if self._process.wait() != 0:
            raise self._failure()
        log = json.loads((Path(self._folder.name) / "log.json").read_text())
        return float(log["pooled_metrics"]["vmaf"]["mean"])

    def close(self) -> None:
        """End the program, and remove what it wrote."""
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stderr):
                if pipe is not None:
                    _closed(pipe)
        if self._folder is not None:
            self._folder.cleanup()

    def _started(self, frame: Any, other: Any) -> subprocess.Popen[bytes]:
        width, height = frame.width, frame.height
        self._folder = tempfile.TemporaryDirectory(prefix="vmaf-")
        graph = (
            f"split[a][b];[a]crop={width}:{height}:0:0[one];[b]crop={width}:{height}:0:{height}"
            f"[other];[one][other]libvmaf=model=version={MODEL}:log_fmt=json:log_path=log.json"
        )
        command = [
            str(self._program), "-hide_banner", "-loglevel", "error", "-nostdin", "-f", "rawvideo",
            "-pixel_format", FORMAT, "-video_size", f"{width}x{2 * height}", "-i", "pipe:0",
            "-filter_complex", graph, "-f", "null", "-",
        ]  # fmt: skip
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=self._folder.name,
            )
        except OSError as error:
            text = f"{self._program} does not start: {error.strerror}"
            raise NoScore("NotMounted", text) from error
        self._timer = threading.Timer(self._deadline - time.monotonic(), self._process.kill)
        self._timer.daemon = True
        self._timer.start()
        return self._process

    def _failure(self) -> NoScore:
        assert self._process is not None
        assert self._process.stderr is not None
        self._process.kill()
        said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        self._process.wait()
        if time.monotonic() >= self._deadline:
            return NoScore("TimedOut", "the time limit ended it")
        if any("libvmaf" in line for line in said):
            return NoScore("NotMounted", f"{self._program} has no libvmaf")
        last = said[-1][:LINE] if said else f"exit status {self._process.returncode}"
        return NoScore("Failed", f"{self._program} failed: {last}")


def _closed(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:  # what was not written yet finds no reader
        return
