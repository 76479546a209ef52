"""Imports of what brings torch: thousands of modules."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from types import ModuleType

from wan_runtime.process import stopping


def import_large(name: str) -> ModuleType:
    """The module, imported while no garbage is collected.

    The collector would go through all that has been imported, again and again: a fifth of the
    time. What is imported stays to the end of the process, so later collections pass over it too.
    """
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        with stopping.fatal():
            return importlib.import_module(name)
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # some libraries report what is left at the end as leaks
        gc.enable()
