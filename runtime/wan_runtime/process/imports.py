"""Imports of what brings torch: thousands of modules."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from wan_runtime.process import stopping


@contextmanager
def importing() -> Iterator[None]:
    """No garbage is collected inside, and a stop ends the process at once.

    The collector would go through all that has been imported, again and again: a fifth of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with stopping.fatal():
            yield
    finally:
        if was_enabled:
            gc.enable()


def import_large(name: str) -> ModuleType:
    """The module, imported as `importing` says, at the start of a process.

    What is there then stays to the end of the process, so later collections pass over it too.
    """
    if name in sys.modules:
        return sys.modules[name]
    with importing():
        try:
            return importlib.import_module(name)
        finally:
            gc.freeze()
            atexit.register(gc.unfreeze)  # some libraries report what is left at the end as leaks
