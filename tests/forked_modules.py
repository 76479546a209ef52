"""`python -m MODULE` as a fork of this process, whose imports it shares: torch and what comes with
it take four seconds of a processor. Each module has a test that executes it, too."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import runpy
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import pytest

from wan_runtime.process import ranks

PAUSE = 0.01
EXECUTED = ranks._execute
"""Starts a rank with memory of its own."""


class Forked:
    """The part of `subprocess.Popen` and of asyncio's `Process` that tests use."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        shares: str,
        env: Mapping[str, str] | None = None,
        log: int | None = None,
        pass_fds: Sequence[int] = (),
        start_new_session: bool = False,
    ) -> None:
        """`shares`: module whose imports take long. `log`: file descriptor of standard output and
        error; None: this process's."""
        importlib.import_module(shares)
        self.stdout = None
        self._reaping = threading.Lock()
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            if start_new_session:
                os.setsid()
            _become(module, arguments, env, log, pass_fds)

    def poll(self) -> int | None:
        with self._reaping:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def wait(self, timeout: float = 600.0) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, f"process {self.pid} does not end"
            time.sleep(PAUSE)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedProcess(Forked):
    """As `asyncio.create_subprocess_exec` returns it."""

    async def wait(self) -> int:  # type: ignore[override]
        return await asyncio.to_thread(super().wait)


@contextmanager
def forked_ranks() -> Iterator[None]:
    """Ranks of workers are forks of the worker meanwhile. They share what this process imports, as
    long as a worker is in this process, or a fork of it."""

    async def fork(arguments: Sequence[str], channel: int) -> ForkedProcess:
        _, module, *rest = arguments
        return ForkedProcess(
            module, *rest, shares="wan_runtime.serving.worker.rank",
            pass_fds=[channel], start_new_session=True,
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "_execute", fork)
        yield


def _become(
    module: str,
    arguments: Sequence[str],
    env: Mapping[str, str] | None,
    log: int | None,
    pass_fds: Sequence[int],
) -> NoReturn:
    code = 1
    try:
        gc.freeze()  # what is collected would close files that are not this process's any more
        if log is not None:
            os.dup2(log, 1)
            os.dup2(log, 2)
        _close_all_but({0, 1, 2, *pass_fds})
        _forget_tests()
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):  # that of the listing itself
                os.close(int(name))


def _forget_tests() -> None:
    """What pytest and the test have set up in this process."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)
    asyncio.set_event_loop_policy(None)
